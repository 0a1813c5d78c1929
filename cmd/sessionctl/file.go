package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"syscall"
	"time"
)

// readFile reads a file of at most so many bytes. It never waits for somebody
// to open the other end of a pipe, and not for longer than ctx for what comes
// out of one. Only pipes and ordinary files can be read.
func readFile(ctx context.Context, path string, most int64) ([]byte, error) {
	if err := readable(os.Stat(path)); err != nil { // opening a device may do something
		return nil, err
	}
	f, err := os.OpenFile(path, os.O_RDONLY|syscall.O_NONBLOCK, 0)
	if err != nil {
		return nil, err
	}
	defer f.Close() //nolint:errcheck // it was only read
	info, err := f.Stat()
	if err := readable(info, err); err != nil {
		return nil, err
	}
	tooLarge := fmt.Errorf("%s is larger than %s", path, size(most))
	if info.Size() > most {
		return nil, tooLarge
	}
	stop := context.AfterFunc(ctx, func() { _ = f.SetReadDeadline(time.Now()) }) // a pipe has one
	defer stop()
	data, err := io.ReadAll(io.LimitReader(f, most+1))
	switch {
	case err != nil && ctx.Err() != nil:
		return nil, context.Cause(ctx)
	case err != nil:
		return nil, err
	case int64(len(data)) > most:
		return nil, tooLarge
	}
	return data, nil
}

// within is f, which does not end with ctx by itself. It may leave a goroutine
// behind, which ends with the program.
func within[T any](ctx context.Context, f func() (T, error)) (T, error) {
	type result struct {
		v   T
		err error
	}
	done := make(chan result, 1)
	go func() {
		v, err := f()
		done <- result{v, err}
	}()
	select {
	case r := <-done:
		return r.v, r.err
	case <-ctx.Done():
		var none T
		return none, context.Cause(ctx)
	}
}

func readable(info fs.FileInfo, err error) error {
	if err != nil {
		return err
	}
	if mode := info.Mode(); !mode.IsRegular() && mode.Type() != fs.ModeNamedPipe {
		return fmt.Errorf("%s is %s, and no file", info.Name(), kindOf(mode))
	}
	return nil
}

// ordinary refuses a path to anything but a regular file, because a replacement
// would be of another kind.
func ordinary(path string) error {
	info, err := os.Lstat(path)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return nil
	case err != nil:
		return err
	case !info.Mode().IsRegular():
		return fmt.Errorf("%s is %s, and no file", path, kindOf(info.Mode()))
	}
	return nil
}

func kindOf(mode fs.FileMode) string {
	switch mode.Type() {
	case fs.ModeDir:
		return "a directory"
	case fs.ModeSymlink:
		return "a symbolic link"
	case fs.ModeNamedPipe:
		return "a pipe"
	case fs.ModeSocket:
		return "a socket"
	}
	return "a device"
}
