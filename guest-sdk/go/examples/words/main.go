// The number of words of a text: as a task of a pool, and as a program that reads stdin.
//
//	GOOS=wasip1 GOARCH=wasm go build -buildmode=c-shared -o words.wasm ./examples/words    # tasks
//	sandpool map words.wasm --task words --input lines.txt
//
//	GOOS=wasip1 GOARCH=wasm go build -o words.wasm ./examples/words                        # a program
//	sandpool map words.wasm --input lines.txt
package main

import (
	"errors"
	"fmt"
	"io"
	"os"
	"strconv"
	"strings"

	"github.com/sandpool/sandpool/guest-sdk/go"
)

//go:wasmexport sandpool_task_words
func words(format, length uint32) uint32 {
	return sandpool.Task(format, length, func(text string) (string, error) {
		if strings.Contains(text, "\x00") {
			return "", errors.New("no text")
		}
		return strconv.Itoa(len(strings.Fields(text))), nil
	})
}

func main() {
	text, err := io.ReadAll(os.Stdin)
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	fmt.Println(len(strings.Fields(string(text))))
}
