package phpcodec_test

import (
	"bufio"
	"cmp"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"os/exec"
	"testing"

	"github.com/seed-a7bee19b/session/codec/php"
)

// codecs are those of the three handlers.
var codecs = []php.Codec{{}, {Handler: php.Binary}, {Handler: php.Serialize}}

// A peer is a PHP that answers questions.
type peer struct {
	t   testing.TB
	in  io.Writer
	out *bufio.Reader
}

// An answer is what PHP says.
type answer struct {
	OK   bool
	Dump string   // the values, which tells types, bytes, order and what is shared
	Data []byte   // what session_encode makes of them
	Said []string // warnings
}

// startPHP starts testdata/codec.php.
func startPHP(t testing.TB) *peer {
	t.Helper()
	path, err := exec.LookPath(cmp.Or(os.Getenv("PHP"), "php"))
	if err != nil {
		t.Fatalf("there is no PHP: %v; run the tests with make test, or set PHP to the path of one", err)
	}
	cmd := exec.Command(path, "-n", "-d", "memory_limit=512M", "-d", "serialize_precision=-1", "-d", "date.timezone=UTC", "testdata/codec.php")
	cmd.Stderr = os.Stderr
	in, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = in.Close()
		if err := cmd.Wait(); err != nil {
			t.Errorf("PHP: %v", err)
		}
	})
	return &peer{t, in, bufio.NewReaderSize(out, 1<<20)}
}

func (p *peer) ask(command string, c php.Codec, arg []byte) answer {
	p.t.Helper()
	if _, err := fmt.Fprintln(p.in, command, c.SerializeHandler(), base64.StdEncoding.EncodeToString(arg)); err != nil {
		p.t.Fatal(err)
	}
	line, err := p.out.ReadBytes('\n')
	if err != nil {
		p.t.Fatalf("PHP ended: %v", err)
	}
	var a answer
	if err := json.Unmarshal(line, &a); err != nil {
		p.t.Fatalf("PHP answered %q: %v", line, err)
	}
	return a
}

// decode has PHP decode a session.
func (p *peer) decode(c php.Codec, data []byte) answer {
	p.t.Helper()
	return p.ask("decode", c, data)
}
