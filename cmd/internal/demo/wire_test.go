package demo

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/atolldb/atoll/internal/testkit"
)

// bufTool is where `make test` installs buf.
const bufTool = "../../../tools/node_modules/.bin/buf"

func command(t *testing.T, name string, args ...string) (string, error) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	out, err := exec.CommandContext(ctx, name, args...).CombinedOutput()
	return string(out), err
}

// bufCurl is buf as an independent client of one protocol.
type bufCurl struct {
	tool, protocol, base string
}

func (b bufCurl) try(t *testing.T, method, data string) (string, error) {
	t.Helper()
	return command(t, b.tool, "curl", "--protocol", b.protocol, "--http2-prior-knowledge", "-d", data, b.base+"/"+method)
}

func (b bufCurl) call(t *testing.T, method, data string) string {
	t.Helper()
	out, err := b.try(t, method, data)
	if err != nil {
		t.Fatalf("%s over %s: %v\n%s", method, b.protocol, err, out)
	}
	return out
}

func TestBufOverEveryProtocol(t *testing.T) {
	tool, err := filepath.Abs(bufTool)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := exec.LookPath(tool); err != nil {
		t.Fatalf("%v: run `make test`, or `npm ci` in tools/", err)
	}
	d := start(t, 1)
	for _, protocol := range []string{"grpc", "grpcweb", "connect"} {
		t.Run(protocol, func(t *testing.T) {
			b := bufCurl{tool, protocol, d.Endpoints()["eu"][0]}
			value := base64.StdEncoding.EncodeToString([]byte("hello over " + protocol))
			b.call(t, "atoll.v1.KV/Put", `{"key":"`+protocol+`","value":"`+value+`"}`)
			var got struct {
				Found bool
				Value []byte
				Info  struct{ Region, Served string }
			}
			if err := json.Unmarshal([]byte(b.call(t, "atoll.v1.KV/Get", `{"key":"`+protocol+`"}`)), &got); err != nil {
				t.Fatal(err)
			}
			if !got.Found || string(got.Value) != "hello over "+protocol || got.Info.Region != "eu" || got.Info.Served != "CONSISTENCY_LINEARIZABLE" {
				t.Errorf("Get answers %+v", got)
			}
			if out := b.call(t, "atoll.v1.KV/Scan", `{"prefix":"`+protocol+`"}`); !strings.Contains(out, `"key": "`+protocol+`"`) {
				t.Errorf("a streamed scan: %s", out)
			}
			out, err := b.try(t, "atoll.v1.KV/Update", `{"key":"`+protocol+`","op":{"counterAdd":{"delta":"1"}}}`)
			if err == nil || !strings.Contains(out, "failed_precondition") || !strings.Contains(out, "google.rpc.ErrorInfo") {
				t.Errorf("counting a register: %v\n%s", err, out)
			}
			if out := b.call(t, "grpc.health.v1.Health/Check", "{}"); !strings.Contains(out, "SERVING") {
				t.Errorf("health: %s", out)
			}
		})
	}
}

func TestPlainCurl(t *testing.T) {
	d := start(t, 1)
	base := d.Endpoints()["eu"][0]
	jsonType := []string{"-sS", "-H", "Content-Type: application/json"}
	for _, c := range []struct {
		name string
		args []string
		want string
	}{
		{"POST", append(jsonType, "-d", `{"key":"visits","op":{"counterAdd":{"delta":"5"}}}`, base+"/atoll.v1.KV/Update"), `"counter":{"value":"5"}`},
		{"GET", []string{
			"-sS", "-G", base + "/atoll.v1.KV/Get", "--data-urlencode", "encoding=json", "--data-urlencode", `message={"key":"visits"}`,
		}, `"found":true`},
		{"malformed JSON", append(jsonType, "-d", `{"key":`, base+"/atoll.v1.KV/Get"), "invalid_argument"},
		{"empty key", append(jsonType, "-d", `{}`, base+"/atoll.v1.KV/Put"), "INVALID_KEY"},
	} {
		if out, err := command(t, "curl", c.args...); err != nil || !strings.Contains(out, c.want) {
			t.Errorf("%s: %v, want %s in:\n%s", c.name, err, c.want, out)
		}
	}
	// A node is ready when all its partitions have a leader, which may take a moment longer than one.
	testkit.Eventually(t, 20*time.Second, func() error {
		out, err := command(t, "curl", "-sSf", base+"/readyz")
		if err != nil {
			return fmt.Errorf("%w: %s", err, out)
		}
		return nil
	})
}
