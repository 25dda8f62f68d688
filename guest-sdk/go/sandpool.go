//go:build wasip1

// Package sandpool is for guests in Go: tasks that a host calls, processes, and queues between them.
//
//	//go:wasmexport sandpool_task_words
//	func words(format, length uint32) uint32 {
//		return sandpool.Task(format, length, func(text string) (string, error) {
//			return strconv.Itoa(len(strings.Fields(text))), nil
//		})
//	}
//
// The contract is that of guest-sdk/c/sandpool.h; the imports that are missing here can be declared in the same way.
package sandpool

import (
	"errors"
	"fmt"
	"os"
	"structs"
	"unsafe"
)

// Formats and results of tasks, and ends of processes: constants of the contract.
const (
	formatText  = 2
	formatBytes = 3

	done        = 0
	failed      = 1
	refused     = 2
	unsupported = 3

	exited = 1

	errnoClosed = 108

	forever = ^uint64(0)
)

type item struct {
	_       structs.HostLayout
	len     uint64
	handles uint32
	held    uint32
}

type part struct {
	_    structs.HostLayout
	from uint32
	len  uint32
}

type record struct {
	_       structs.HostLayout
	handle  uint64
	kind    uint32
	tag     uint32
	partner uint64
}

// Status is how a process has ended.
type Status struct {
	_ structs.HostLayout
	// Kind is 1 for an exit, 2 for a signal, 3 for a trap, 4 for a limit, 5 for a forbidden system call.
	Kind   uint32
	Detail uint32
	// ExitCode is what Python reports: 0 to 255, or the negated signal.
	ExitCode int32
	_        uint32
	Figure   uint64
}

// Success says whether the process has exited with 0.
func (status Status) Success() bool {
	return status.Kind == exited && status.Detail == 0
}

//go:wasmimport sandpool_task input
func taskInput(buffer unsafe.Pointer, capacity uint32) int64

//go:wasmimport sandpool_task output
func taskOutput(bytes string) int32

//go:wasmimport sandpool_process fork
func processFork(name string, flags uint32) int64

//go:wasmimport sandpool_process join
func processJoin(process uint64, timeout uint64) int32

//go:wasmimport sandpool_process status
func processStatus(process uint64, status *Status) int32

//go:wasmimport sandpool_process close
func processClose(process uint64) int32

//go:wasmimport sandpool_queue create
func queueCreate(maxsize uint64, flags uint32) int64

//go:wasmimport sandpool_queue put
func queuePut(queue uint64, item string, handles unsafe.Pointer, count uint32, timeout uint64) int32

//go:wasmimport sandpool_queue get
func queueGet(queue uint64, buffer unsafe.Pointer, capacity uint32, timeout uint64, result *item) int32

//go:wasmimport sandpool_queue take
func queueTake(parts *part, count uint32, records unsafe.Pointer, capacity uint32) int32

//go:wasmimport sandpool_queue close
func queueClose(queue uint64) int32

//go:wasmimport sandpool_handle release
func handleRelease(handle uint64) int32

// Errno is an error number of Sandpool; sandpool.h names them.
type Errno int32

func (errno Errno) Error() string {
	return fmt.Sprintf("sandpool error %d", int32(errno))
}

// ErrClosed is the error of a queue that is closed, and of a Get once such a queue is empty.
var ErrClosed = errors.New("the queue is closed")

// checked is the error for a result of an import: 0, an error number, or a negated one.
func checked(result int64) error {
	if result < 0 {
		result = -result
	}
	switch result {
	case 0:
		return nil
	case errnoClosed:
		return ErrClosed
	default:
		return Errno(result)
	}
}

// Task answers the call of a task by the output of a function of its input, a text or bytes. An error of the function is the
// failure of the task. Stdin is empty in a task; the end of what it writes to stderr comes with a failure.
func Task(format, length uint32, run func(input string) (string, error)) uint32 {
	if format != formatText && format != formatBytes {
		return unsupported
	}
	input := make([]byte, length)
	if length > 0 {
		if copied := taskInput(unsafe.Pointer(unsafe.SliceData(input)), length); copied != int64(length) {
			taskOutput("the input of the task is not there")
			return refused
		}
	}
	output, err := run(string(input))
	if err != nil {
		taskOutput(err.Error())
		return failed
	}
	taskOutput(output)
	return done
}

// Process is a child of this process.
type Process struct{ handle uint64 }

// Fork makes a child that runs a function, whose result is the child's exit code. The child has a copy of all memory; other
// goroutines go on in both.
func Fork(run func() int) (*Process, error) {
	handle := processFork("", 0)
	if handle < 0 {
		return nil, checked(handle)
	}
	if handle == 0 {
		os.Exit(run())
	}
	return &Process{uint64(handle)}, nil
}

// Join waits until the process has ended. A second Join is an error.
func (process *Process) Join() (Status, error) {
	var status Status
	if err := checked(int64(processJoin(process.handle, forever))); err != nil {
		return status, err
	}
	if err := checked(int64(processStatus(process.handle, &status))); err != nil {
		return status, err
	}
	return status, checked(int64(processClose(process.handle)))
}

// Queue carries items from any process to any other of the run. A process has the queues that it had when it was forked.
type Queue struct{ handle uint64 }

// NewQueue makes a queue for at most maxsize items; 0 means as many as there is memory for.
func NewQueue(maxsize uint64) (*Queue, error) {
	handle := queueCreate(maxsize, 0)
	if handle < 0 {
		return nil, checked(handle)
	}
	return &Queue{uint64(handle)}, nil
}

// Put waits for room, and adds an item.
func (queue *Queue) Put(item []byte) error {
	text := unsafe.String(unsafe.SliceData(item), len(item))
	return checked(int64(queuePut(queue.handle, text, nil, 0, forever)))
}

// Get waits for an item, and takes the oldest. Handles that come with the item are released.
func (queue *Queue) Get() ([]byte, error) {
	small := make([]byte, 256)
	var found item
	result := queueGet(queue.handle, unsafe.Pointer(unsafe.SliceData(small)), uint32(len(small)), forever, &found)
	if err := checked(int64(result)); err != nil {
		return nil, err
	}
	if found.held == 0 {
		return small[:found.len], nil
	}
	bytes := make([]byte, found.len)
	records := make([]record, found.handles+1)
	whole := part{from: uint32(uintptr(unsafe.Pointer(unsafe.SliceData(bytes)))), len: uint32(found.len)}
	result = queueTake(&whole, 1, unsafe.Pointer(unsafe.SliceData(records)), found.handles)
	if err := checked(int64(result)); err != nil {
		return nil, err
	}
	for _, record := range records[:found.handles] {
		handleRelease(record.handle)
	}
	return bytes, nil
}

// Close closes the queue for every process: Put fails from now on, and Get once the queue is empty.
func (queue *Queue) Close() error {
	return checked(int64(queueClose(queue.handle)))
}
