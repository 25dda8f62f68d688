// Tasks in C, and a command: how many words a text has.
//
//     sandpool map guest-sdk/c/examples/words.c --task words --input lines.txt    # a task over each line
//     sandpool run guest-sdk/c/examples/words.c < lines.txt                       # the words of stdin

#include "../sandpool.h"

SANDPOOL_GUEST

static size_t count(const char *text, size_t len) {
    size_t words = 0;
    int inside = 0;
    for (size_t at = 0; at < len; at++) {
        int is_space = text[at] == ' ' || text[at] == '\t' || text[at] == '\n';
        words += (size_t)(inside == 0 && is_space == 0);
        inside = is_space == 0;
    }
    return words;
}

SANDPOOL_TASK(words) {
    if (format != SANDPOOL_TASK_TEXT) {
        return SANDPOOL_TASK_UNSUPPORTED;
    }
    char *text = sandpool_input(len);
    if (text == NULL) {
        return sandpool_failed("no memory for the input");
    }
    char number[32];
    int digits = snprintf(number, sizeof number, "%lu", (unsigned long)count(text, len));
    free(text);
    return sandpool_done(number, (size_t)digits);
}

// Prints the length of the text, and fails where it is empty.
SANDPOOL_TASK(not_empty) {
    if (len == 0) {
        fprintf(stderr, "this goes with the failure");
        return sandpool_failed("the text is empty");
    }
    char *text = sandpool_input(len);
    int32_t done = sandpool_done(text, len);
    free(text);
    return done;
}

int main(void) {
    char text[4096];
    size_t words = 0;
    while (fgets(text, sizeof text, stdin) != NULL) {
        words += count(text, strlen(text));
    }
    printf("%lu\n", (unsigned long)words);
    return 0;
}
