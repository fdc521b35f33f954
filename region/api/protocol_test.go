package api

import (
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"net/url"
	"strings"
	"testing"
	"time"

	"connectrpc.com/connect/v2"
	"connectrpc.com/connect/v2/connecthttp"
	"connectrpc.com/grpcreflect"
	healthv1 "google.golang.org/grpc/health/grpc_health_v1"

	"github.com/atolldb/atoll/client"
	"github.com/atolldb/atoll/internal/testkit"
	atollv1 "github.com/atolldb/atoll/proto/atoll/v1"
	"github.com/atolldb/atoll/proto/atoll/v1/atollv1connect"
	"github.com/atolldb/atoll/topology"
)

// plain sends a request as curl would, and returns the status, the headers and the JSON of the reply.
func plain(t *testing.T, method, address, body string) (int, http.Header, map[string]any) {
	t.Helper()
	q, err := http.NewRequestWithContext(testContext(t), method, address, strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	if body != "" {
		q.Header.Set("Content-Type", "application/json")
	}
	h := &http.Client{Transport: &http.Transport{DisableKeepAlives: true}}
	res, err := h.Do(q)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = res.Body.Close() }()
	var reply map[string]any
	if err := json.NewDecoder(res.Body).Decode(&reply); err != nil && !errors.Is(err, io.EOF) {
		t.Fatalf("status %d: %v", res.StatusCode, err)
	}
	return res.StatusCode, res.Header, reply
}

func TestPlainJSON(t *testing.T) {
	base := setup(t, 2, 4, 0).url("eu-1")
	status, _, reply := plain(t, http.MethodPost, base+"/atoll.v1.KV/Put", `{"key":"greeting","value":"aGVsbG8=","ttl":"60s"}`)
	if status != http.StatusOK || reply["version"] == "" {
		t.Fatalf("put: %d %v", status, reply)
	}
	status, _, reply = plain(t, http.MethodPost, base+"/atoll.v1.KV/Get", `{"key":"greeting"}`)
	if status != http.StatusOK || reply["found"] != true || reply["value"] != "aGVsbG8=" || reply["ttl"] != "60s" {
		t.Errorf("get: %d %v", status, reply)
	}
	status, header, reply := plain(t, http.MethodGet, base+"/atoll.v1.KV/Get?encoding=json&message="+url.QueryEscape(`{"key":"greeting"}`), "")
	if status != http.StatusOK || reply["value"] != "aGVsbG8=" || header.Get("Cache-Control") != "no-store" {
		t.Errorf("GET: %d %v %v", status, header, reply)
	}
	status, _, reply = plain(t, http.MethodPost, base+"/atoll.v1.KV/Update", `{"key":"n","op":{"counterAdd":{"delta":"3"}}}`)
	if result, _ := json.Marshal(reply["result"]); status != http.StatusOK || string(result) != `{"counter":{"value":"3"}}` {
		t.Errorf("update: %d %v", status, reply)
	}
	status, _, reply = plain(t, http.MethodPost, base+"/atoll.v1.Regions/Status", `{}`)
	if status != http.StatusOK || reply["region"] != "eu" {
		t.Errorf("status: %d %v", status, reply)
	}
	if status, _, _ = plain(t, http.MethodGet, base+"/atoll.v1.KV/Put?encoding=json&message=%7B%7D", ""); status != http.StatusMethodNotAllowed {
		t.Errorf("a write by GET: %d", status)
	}
}

func TestPlainJSONErrors(t *testing.T) {
	base := setup(t, 1, 1, 0).url("eu-0")
	for name, tc := range map[string]struct {
		path, body   string
		status       int
		code, reason string
	}{
		"wrong version": {"KV/Put", `{"key":"k","condition":{"ifVersion":"x"}}`, http.StatusBadRequest, "failed_precondition", "VERSION_MISMATCH"},
		"no key":        {"KV/Put", `{}`, http.StatusBadRequest, "invalid_argument", "INVALID_KEY"},
		"misspelt":      {"KV/Put", `{"kee":"k"}`, http.StatusBadRequest, "invalid_argument", "INVALID_KEY"},
		"no JSON":       {"KV/Put", `{`, http.StatusBadRequest, "invalid_argument", "INVALID_ARGUMENT"},
		"no procedure":  {"KV/Nothing", `{}`, http.StatusNotImplemented, "unimplemented", "UNIMPLEMENTED"},
		"too large":     {"KV/Put", `{"key":"k","value":"` + strings.Repeat("A", readMaxBytes) + `"}`, http.StatusBadRequest, "invalid_argument", "BATCH_TOO_LARGE"},
	} {
		status, _, reply := plain(t, http.MethodPost, base+"/atoll.v1."+tc.path, tc.body)
		details, _ := json.Marshal(reply["details"])
		if status != tc.status || reply["code"] != tc.code || !bytes.Contains(details, []byte("google.rpc.ErrorInfo")) {
			t.Errorf("%s: %d %v", name, status, reply)
		}
		if !bytes.Contains(details, []byte(tc.reason)) {
			t.Errorf("%s: details are %s", name, details)
		}
	}
}

func TestEveryProtocolServes(t *testing.T) {
	r := setup(t, 1, 4, 0)
	mustPut(t, r.kv("eu-0"), "k", "x")
	h2c := &http.Transport{Protocols: new(http.Protocols)}
	h2c.Protocols.SetUnencryptedHTTP2(true)
	t.Cleanup(h2c.CloseIdleConnections)
	for name, option := range map[string]connecthttp.Option{
		"gRPC": connecthttp.WithGRPC(), "gRPC-Web": connecthttp.WithGRPCWeb(), "JSON": connecthttp.WithProtoJSON(), "GET": connecthttp.WithHTTPGet(),
	} {
		kv := atollv1connect.NewKVClient(connect.NewClient(connecthttp.NewTransport(&http.Client{Transport: h2c}, r.url("eu-0"), option)))
		got, err := kv.Get(testContext(t), &atollv1.GetRequest{Key: "k"})
		if err != nil || string(got.GetValue()) != "x" {
			t.Errorf("%s: %v, %v", name, got, err)
		}
		if keys, _ := scanAll(t, kv, &atollv1.ScanRequest{}); len(keys) != 1 {
			t.Errorf("%s: scan has %d keys", name, len(keys))
		}
		_, err = kv.Get(testContext(t), &atollv1.GetRequest{})
		wantReason(t, err, reasonInvalidKey)
	}
}

func TestReflection(t *testing.T) {
	r := setup(t, 1, 1, 0)
	h2c := &http.Transport{Protocols: new(http.Protocols)}
	h2c.Protocols.SetUnencryptedHTTP2(true)
	t.Cleanup(h2c.CloseIdleConnections)
	stream := grpcreflect.NewClient(&http.Client{Transport: h2c}, r.url("eu-0")).NewStream(testContext(t))
	defer func() { _, _ = stream.Close() }()
	names, err := stream.ListServices()
	if err != nil || len(names) != 5 {
		t.Fatalf("got %v, %v", names, err)
	}
	if _, err := stream.FileContainingSymbol("atoll.v1.KV"); err != nil {
		t.Error(err)
	}
}

func TestHealthForPeople(t *testing.T) {
	ready := errors.New("replication is not up")
	r := setup(t, 1, 2, 0, func(c *Config) { c.Ready = func() error { return ready } })
	base := r.url("eu-0")
	if status, _, reply := plain(t, http.MethodGet, base+"/healthz", ""); status != http.StatusOK || reply["node"] != "eu-0" {
		t.Errorf("healthz: %d %v", status, reply)
	}
	check := func(wantStatus int, wantReason string) {
		t.Helper()
		status, _, reply := plain(t, http.MethodGet, base+"/readyz", "")
		if status != wantStatus || (wantReason != "") != (reply["ready"] == false) || wantReason != "" && reply["reason"] != wantReason {
			t.Errorf("readyz: %d %v", status, reply)
		}
	}
	check(http.StatusServiceUnavailable, "replication is not up")
	ready = nil
	check(http.StatusOK, "")
	r.groups[1].lead("")
	check(http.StatusServiceUnavailable, "1 partitions of this node have no leader")
	r.groups[1].lead("eu-0")
	check(http.StatusOK, "")
	r.servers["eu-0"].Drain()
	check(http.StatusServiceUnavailable, "the node is shutting down")
}

func TestHealthService(t *testing.T) {
	ctx := testContext(t)
	r := setup(t, 1, 1, 0)
	conn := r.conn("eu-0", connecthttp.WithProtoJSON())
	spec := func(method string, kind connect.StreamType) connect.Spec {
		return connect.Spec{Procedure: "/grpc.health.v1.Health/" + method, StreamType: kind}
	}
	var res healthv1.HealthCheckResponse
	for _, service := range []string{"", "atoll.v1.KV"} {
		err := conn.CallUnary(ctx, spec("Check", connect.StreamTypeUnary), &healthv1.HealthCheckRequest{Service: service}, &res)
		if err != nil || res.GetStatus() != healthv1.HealthCheckResponse_SERVING {
			t.Errorf("%q: %v, %v", service, &res, err)
		}
	}
	err := conn.CallUnary(ctx, spec("Check", connect.StreamTypeUnary), &healthv1.HealthCheckRequest{Service: "none"}, &res)
	if connect.CodeOf(err) != connect.CodeNotFound {
		t.Errorf("unknown service: %v", err)
	}
	var list healthv1.HealthListResponse
	if err := conn.CallUnary(ctx, spec("List", connect.StreamTypeUnary), &healthv1.HealthListRequest{}, &list); err != nil || len(list.GetStatuses()) != 6 {
		t.Errorf("list: %v, %v", &list, err)
	}
	watch, err := conn.CallServerStream(ctx, spec("Watch", connect.StreamTypeServer), &healthv1.HealthCheckRequest{})
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = watch.Close() }()
	for _, want := range []healthv1.HealthCheckResponse_ServingStatus{
		healthv1.HealthCheckResponse_SERVING, healthv1.HealthCheckResponse_NOT_SERVING,
	} {
		var now healthv1.HealthCheckResponse
		if err := watch.Receive(&now); err != nil || now.GetStatus() != want {
			t.Fatalf("got %v, %v, want %v", now.GetStatus(), err, want)
		}
		r.servers["eu-0"].Drain()
	}
	if err := watch.Receive(&res); connect.CodeOf(err) != connect.CodeUnavailable {
		t.Errorf("watch ends with %v", err)
	}
}

// The SDK against the real server: a region whose nodes come and go.
func TestSDKSurvivesChangesOfLeader(t *testing.T) {
	ctx := testContext(t)
	r := setup(t, 3, 4, 0)
	sdk, err := client.New([]string{r.url("eu-1"), r.url("eu-2")})
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = sdk.Close() }()
	leaders := []topology.NodeID{"eu-0", "", "eu-1", "eu-2", ""}
	stop, moved := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(moved)
		tick := time.NewTicker(5 * time.Millisecond)
		defer tick.Stop()
		for i := 0; ; i++ {
			select {
			case <-stop:
				return
			case <-tick.C:
				r.groups[i%4].lead(leaders[i%len(leaders)])
			}
		}
	}()
	counter := sdk.Counter("n")
	for range 200 {
		if _, err := counter.Add(ctx, 1); err != nil {
			t.Fatal(err)
		}
	}
	close(stop)
	<-moved
	for _, g := range r.groups {
		g.lead("eu-2")
	}
	testkit.Eventually(t, 10*time.Second, func() error {
		n, err := counter.Value(ctx)
		if err == nil && n != 200 {
			t.Fatalf("counter is %d, want 200", n)
		}
		return err
	})
	keys := 0
	for e, err := range sdk.Scan(ctx, client.ScanOptions{}) {
		if err != nil || e.Key != "n" || e.Counter != 200 {
			t.Fatalf("scan: %+v, %v", e, err)
		}
		keys++
	}
	if keys != 1 {
		t.Errorf("%d keys", keys)
	}
}
