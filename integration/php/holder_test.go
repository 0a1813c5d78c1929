package php

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"testing"
	"time"

	"github.com/seed-a7bee19b/session/backend/dynamodb"
)

// holderVariable has the job of this program if it was started as a holder.
const holderVariable = "SESSION_PHP_HOLDER"

type holder struct {
	Endpoint, Table string
	TTL             time.Duration
}

// hold is the holder: a Go process that locks the session id1 and works until it
// is killed.
func hold(job string) int {
	var h holder
	if err := json.Unmarshal([]byte(job), &h); err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	b, err := dynamodb.New(awsConfig(h.Endpoint), dynamodb.Config{Table: h.Table, DataType: dynamodb.String,
		PHP: dynamodb.PHPConfig{Connection: dynamodb.StockLocking}, AttemptTimeout: time.Minute})
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	if _, err := b.Acquire(context.Background(), key(id1), h.TTL); err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	fmt.Println("holding")
	select {}
}

// killHolder starts a holder and kills it when it holds the lock.
func killHolder(t *testing.T, table string, ttl time.Duration) {
	t.Helper()
	job, err := json.Marshal(holder{local.Endpoint, table, ttl})
	if err != nil {
		t.Fatal(err)
	}
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(self)
	cmd.Env = append(os.Environ(), holderVariable+"="+string(job))
	cmd.Stderr = os.Stderr
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	line, err := bufio.NewReader(out).ReadString('\n')
	_ = cmd.Process.Kill()
	_ = cmd.Wait() // it was killed
	if line != "holding\n" {
		t.Fatalf("the holder has said %q: %v", line, err)
	}
}
