package main

import (
	"encoding/json"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/rogpeppe/go-internal/testscript"
)

// TestScripts runs the scripts in testdata/script: what an operator types, and
// what the program says. They have these commands besides those of testscript:
//
//	dynamodb [OP=REPLY]...        start a DynamoDB at $URL. Its table is in order, but for the replies to these
//	                              operations. REPLY is "STATUS FILE", or "STATUS CODE: MESSAGE" for an error.
//	sessionctl ARG...             run the program, which exits with 0
//	exits CODE sessionctl ARG...  run the program, which exits with CODE
//	usage TEXT ARG...             run the program, which says TEXT about wrong usage
//	fails TEXT ARG...             run the program, which exits with 1 and says only TEXT, with \n between lines
//	                              and URL for $URL
//	[!] sent OP                   look whether the DynamoDB was sent a request
func TestScripts(t *testing.T) {
	type server struct{ *fakeDynamoDB }
	serverOf := func(ts *testscript.TestScript) *server { return ts.Value(server{}).(*server) }
	run := func(ts *testscript.TestScript, want int, args []string) outcome {
		if url := ts.Getenv("URL"); url != "" {
			args = append(args, "--endpoint", url)
		}
		got := sessionctl(t.Context(), args...)
		_, _ = ts.Stdout().Write([]byte(got.stdout))
		_, _ = ts.Stderr().Write([]byte(got.stderr))
		if got.code != want {
			ts.Fatalf("exit code %d, want %d", got.code, want)
		}
		if slices.Contains(args, "--json") && !json.Valid([]byte(got.stdout)) {
			ts.Fatalf("this is no JSON")
		}
		return got
	}
	testscript.Run(t, testscript.Params{
		Dir: "testdata/script",
		Setup: func(e *testscript.Env) error {
			e.Values[server{}] = &server{}
			e.Setenv("LONG", strings.Repeat("k", 513))
			return nil
		},
		Cmds: map[string]func(ts *testscript.TestScript, neg bool, args []string){
			"dynamodb": func(ts *testscript.TestScript, _ bool, args []string) {
				does := goodTable()
				for _, arg := range args {
					op, reply, _ := strings.Cut(arg, "=")
					number, reply, _ := strings.Cut(reply, " ")
					status, err := strconv.Atoi(number)
					ts.Check(err)
					if code, message, isError := strings.Cut(reply, ": "); isError {
						does[op] = refuses(status, code, message)
					} else {
						text := ts.ReadFile(reply)
						does[op] = func(map[string]any) (int, any) { return status, text }
					}
				}
				s := serverOf(ts)
				s.fakeDynamoDB = newFakeDynamoDB(t, does)
				ts.Setenv("URL", s.URL)
			},
			"sessionctl": func(ts *testscript.TestScript, _ bool, args []string) { run(ts, codeDone, args) },
			"exits": func(ts *testscript.TestScript, _ bool, args []string) {
				code, err := strconv.Atoi(args[0])
				ts.Check(err)
				run(ts, code, args[2:])
			},
			"usage": func(ts *testscript.TestScript, _ bool, args []string) {
				got := run(ts, codeUsage, args[1:])
				line, hint, _ := strings.Cut(got.stderr, "\n")
				if got.stdout != "" || line != "sessionctl: "+args[0] || !strings.HasSuffix(hint, " --help\" shows the usage.\n") {
					ts.Fatalf("it does not say %q", args[0])
				}
			},
			"fails": func(ts *testscript.TestScript, _ bool, args []string) {
				got := run(ts, codeFailed, args[1:])
				want := "sessionctl: " + strings.NewReplacer(`\n`, "\n", "URL", ts.Getenv("URL")).Replace(args[0]) + "\n"
				if got.stdout != "" || got.stderr != want {
					ts.Fatalf("it does not say %q", want)
				}
			},
			"sent": func(ts *testscript.TestScript, neg bool, args []string) {
				if slices.Contains(serverOf(ts).sent, args[0]) == neg {
					ts.Fatalf("sent were %q", serverOf(ts).sent)
				}
			},
		},
	})
}
