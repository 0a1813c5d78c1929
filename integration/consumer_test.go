package integration

import (
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// TestConsumerDownloads makes a module that keeps sessions in memory, with an
// empty module cache, and checks which modules are downloaded.
func TestConsumerDownloads(t *testing.T) {
	root, err := filepath.Abs("..")
	if err != nil {
		t.Fatal(err)
	}
	old, err := exec.Command("go", "env", "GOMODCACHE", "GOPROXY").Output()
	if err != nil {
		t.Fatal(err)
	}
	cache, proxies, _ := strings.Cut(strings.TrimSpace(string(old)), "\n")

	dir, downloads := t.TempDir(), t.TempDir()
	for name, text := range map[string]string{
		"go.mod": "module consumer\n\ngo 1.24\n\nrequire github.com/seed-a7bee19b/session v0.0.0\n\n" +
			"replace github.com/seed-a7bee19b/session => " + root + "\n",
		"main.go": "package main\n\nimport (\n\t\"github.com/seed-a7bee19b/session\"\n\t\"github.com/seed-a7bee19b/session/backend/memory\"\n)\n\n" +
			"func main() { _, _ = session.New(&memory.Backend{}, session.Config{}) }\n",
	} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	for _, args := range [][]string{{"mod", "tidy"}, {"build", "-o", os.DevNull, "."}} {
		cmd := exec.Command("go", args...)
		cmd.Dir = dir
		cmd.Env = append(os.Environ(), "GOMODCACHE="+downloads, "GOFLAGS=-modcacherw", "GOWORK=off", "GOSUMDB=off",
			// Modules that this machine has need not be downloaded.
			"GOPROXY=file://"+filepath.Join(cache, "cache", "download")+","+proxies)
		if out, err := cmd.CombinedOutput(); err != nil {
			t.Fatalf("go %v: %v\n%s", args, err, out)
		}
	}
	var got []string
	err = filepath.WalkDir(downloads, func(path string, _ fs.DirEntry, err error) error {
		if strings.HasSuffix(path, ".zip") {
			rel, _ := filepath.Rel(filepath.Join(downloads, "cache", "download"), path)
			got = append(got, rel)
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Logf("downloaded: %v", got)
	msgpack := false
	for _, zip := range got {
		msgpack = msgpack || strings.HasPrefix(zip, "github.com/vmihailenco/msgpack")
		if strings.Contains(zip, "aws") || strings.Contains(zip, "redis") {
			t.Errorf("downloaded %s", zip)
		}
	}
	if !msgpack {
		t.Error("not even the default codec was downloaded: does the test look at the right place?")
	}
}
