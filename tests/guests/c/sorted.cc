// A task that sorts the words of a record by the library of C++, and counts records in a global object.

#include <algorithm>
#include <sstream>
#include <string>
#include <vector>

#include "sandpool.h"

SANDPOOL_GUEST

static std::vector<std::string> seen;

SANDPOOL_TASK(sort) {
    char *text = sandpool_input(len);
    if (text == nullptr) {
        return sandpool_failed("no memory for the input");
    }
    seen.push_back(text);
    free(text);
    std::istringstream in(seen.back());
    std::vector<std::string> words;
    for (std::string word; in >> word;) {
        words.push_back(word);
    }
    std::sort(words.begin(), words.end());
    std::ostringstream out;
    for (const auto &word : words) {
        out << word << ' ';
    }
    out << seen.size();
    std::string result = out.str();
    return sandpool_done(result.data(), result.size());
}
