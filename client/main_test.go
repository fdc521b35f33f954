package client

import (
	"context"
	"io"
	"log"
	"net/http"
	"net/http/httptest"
	"testing"
	"time"

	"connectrpc.com/connect/v2"
	"connectrpc.com/connect/v2/connecthttp"
	"connectrpc.com/connect/v2/connectproto"
	"go.uber.org/goleak"
	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/protobuf/types/known/durationpb"

	atollv1 "github.com/atolldb/atoll/proto/atoll/v1"
	"github.com/atolldb/atoll/proto/atoll/v1/atollv1connect"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// fakeServer answers with functions; an RPC without one is unimplemented.
type fakeServer struct {
	atollv1connect.UnimplementedKVHandler
	get        func(context.Context, *atollv1.GetRequest) (*atollv1.GetResponse, error)
	put        func(context.Context, *atollv1.PutRequest) (*atollv1.PutResponse, error)
	del        func(context.Context, *atollv1.DeleteRequest) (*atollv1.DeleteResponse, error)
	update     func(context.Context, *atollv1.UpdateRequest) (*atollv1.UpdateResponse, error)
	query      func(context.Context, *atollv1.QueryRequest) (*atollv1.QueryResponse, error)
	batchWrite func(context.Context, *atollv1.BatchWriteRequest) (*atollv1.BatchWriteResponse, error)
	batchGet   func(context.Context, *atollv1.BatchGetRequest) (*atollv1.BatchGetResponse, error)
	scan       func(context.Context, *atollv1.ScanRequest, atollv1connect.KVScanServerStream) error
}

func (f *fakeServer) Get(ctx context.Context, r *atollv1.GetRequest) (*atollv1.GetResponse, error) {
	return f.get(ctx, r)
}

func (f *fakeServer) Put(ctx context.Context, r *atollv1.PutRequest) (*atollv1.PutResponse, error) {
	return f.put(ctx, r)
}

func (f *fakeServer) Delete(ctx context.Context, r *atollv1.DeleteRequest) (*atollv1.DeleteResponse, error) {
	return f.del(ctx, r)
}

func (f *fakeServer) Update(ctx context.Context, r *atollv1.UpdateRequest) (*atollv1.UpdateResponse, error) {
	return f.update(ctx, r)
}

func (f *fakeServer) Query(ctx context.Context, r *atollv1.QueryRequest) (*atollv1.QueryResponse, error) {
	return f.query(ctx, r)
}

func (f *fakeServer) BatchWrite(ctx context.Context, r *atollv1.BatchWriteRequest) (*atollv1.BatchWriteResponse, error) {
	return f.batchWrite(ctx, r)
}

func (f *fakeServer) BatchGet(ctx context.Context, r *atollv1.BatchGetRequest) (*atollv1.BatchGetResponse, error) {
	return f.batchGet(ctx, r)
}

func (f *fakeServer) Scan(ctx context.Context, r *atollv1.ScanRequest, s atollv1connect.KVScanServerStream) error {
	return f.scan(ctx, r, s)
}

// dropConnection makes the server break the connection instead of answering.
func dropConnection() { panic(http.ErrAbortHandler) }

// serve starts a server that takes streams, and HTTP/1.1 beside.
func serve(t *testing.T, f *fakeServer) (address string) { return start(t, f, nil, true).URL }

// servePlain starts a server that speaks only HTTP/1.1.
func servePlain(t *testing.T, f *fakeServer) (address string) { return start(t, f, nil, false).URL }

// start starts a server of a fake and of a fake topology, if there is one.
func start(t testing.TB, kv atollv1connect.KVHandler, cluster atollv1connect.ClusterHandler, streams bool) *httptest.Server {
	t.Helper()
	rpc := connect.NewServer()
	atollv1connect.RegisterKVHandler(rpc, kv)
	if cluster != nil {
		atollv1connect.RegisterClusterHandler(rpc, cluster)
	}
	mux := http.NewServeMux()
	connecthttp.Mount(mux, rpc, connecthttp.WithCompressMinBytes(1024))
	s := httptest.NewUnstartedServer(mux)
	s.Config.Protocols = new(http.Protocols)
	s.Config.Protocols.SetHTTP1(true)
	s.Config.Protocols.SetUnencryptedHTTP2(streams)
	s.Config.ErrorLog = log.New(io.Discard, "", 0) // of connections that tests break
	s.Start()
	t.Cleanup(s.Close)
	return s
}

// bothWays runs a test with streams, and with a server that has none.
func bothWays(t *testing.T, test func(t *testing.T, serve func(*testing.T, *fakeServer) string)) {
	t.Run("streams", func(t *testing.T) { test(t, serve) })
	t.Run("unary", func(t *testing.T) { test(t, servePlain) })
}

// deadAddress returns an address that refuses connections.
func deadAddress(t *testing.T) string {
	t.Helper()
	s := httptest.NewServer(http.NotFoundHandler())
	s.Close()
	return s.URL
}

func newClient(t *testing.T, endpoints []string, opts ...Option) *Client {
	t.Helper()
	c, err := New(endpoints, opts...)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Close() })
	return c
}

func refusal(code connect.Code, reason Reason, retry time.Duration, metadata ...string) error {
	info := &errdetails.ErrorInfo{Domain: "atoll", Reason: string(reason), Metadata: map[string]string{}}
	for i := 0; i+1 < len(metadata); i += 2 {
		info.Metadata[metadata[i]] = metadata[i+1]
	}
	detail, err := connectproto.NewErrorDetail(info)
	if err != nil {
		panic(err)
	}
	e := connect.NewError(code, "message of "+string(reason)).WithDetail(detail)
	if retry > 0 {
		if detail, err = connectproto.NewErrorDetail(&errdetails.RetryInfo{RetryDelay: durationpb.New(retry)}); err != nil {
			panic(err)
		}
		e = e.WithDetail(detail)
	}
	return e
}

func testContext(t *testing.T) context.Context {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	t.Cleanup(cancel)
	return ctx
}

// equal fails the test if what was got is not what was wanted.
func equal[T comparable](t *testing.T, what string, got, want T) {
	t.Helper()
	if got != want {
		t.Errorf("%s is %v, want %v", what, got, want)
	}
}

func noError(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}
