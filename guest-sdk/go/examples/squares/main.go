// A parallel program: children take numbers from a queue, and put their squares into another.
//
//	GOOS=wasip1 GOARCH=wasm go build -o squares.wasm ./examples/squares
//	sandpool run squares.wasm -- 4 1000    # four processes, the numbers up to 1000
package main

import (
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"strconv"

	"github.com/sandpool/sandpool/guest-sdk/go"
)

func main() {
	if err := run(4, 1000); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

func run(processes, count uint64) error {
	for at, number := range []*uint64{&processes, &count} {
		if at+1 < len(os.Args) {
			var err error
			if *number, err = strconv.ParseUint(os.Args[at+1], 10, 32); err != nil {
				return err
			}
		}
	}
	numbers, err := sandpool.NewQueue(0)
	if err != nil {
		return err
	}
	squares, err := sandpool.NewQueue(0)
	if err != nil {
		return err
	}
	var children []*sandpool.Process
	for range processes {
		child, err := sandpool.Fork(func() int { return square(numbers, squares) })
		if err != nil {
			return err
		}
		children = append(children, child)
	}
	for number := range count {
		if err := numbers.Put(binary.LittleEndian.AppendUint64(nil, number+1)); err != nil {
			return err
		}
	}
	if err := numbers.Close(); err != nil {
		return err
	}
	var sum uint64
	for range count {
		item, err := squares.Get()
		if err != nil {
			return err
		}
		sum += binary.LittleEndian.Uint64(item)
	}
	for _, child := range children {
		status, err := child.Join()
		if err != nil {
			return err
		}
		if !status.Success() {
			return fmt.Errorf("a child ended with %d", status.ExitCode)
		}
	}
	fmt.Println(sum)
	return nil
}

func square(numbers, squares *sandpool.Queue) int {
	for {
		item, err := numbers.Get()
		if errors.Is(err, sandpool.ErrClosed) {
			return 0
		}
		if err != nil {
			fmt.Fprintln(os.Stderr, err)
			return 1
		}
		number := binary.LittleEndian.Uint64(item)
		if err := squares.Put(binary.LittleEndian.AppendUint64(nil, number*number)); err != nil {
			fmt.Fprintln(os.Stderr, err)
			return 1
		}
	}
}
