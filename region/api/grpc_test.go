package api

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"testing"
	"time"

	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/encoding/gzip"
	healthv1 "google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/metadata"
	reflectionv1 "google.golang.org/grpc/reflection/grpc_reflection_v1"
	"google.golang.org/grpc/status"

	atollv1 "github.com/atolldb/atoll/proto/atoll/v1"
	"github.com/atolldb/atoll/proto/atoll/v1/atollv1connect"
)

// dialGRPC serves a node's gRPC port and returns a connection to it.
func dialGRPC(t testing.TB, s *Server) *grpc.ClientConn {
	t.Helper()
	var listen net.ListenConfig
	l, err := listen.Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	server := s.GRPC()
	served := make(chan error, 1)
	go func() { served <- server.Serve(l) }()
	t.Cleanup(func() {
		server.Stop()
		if err := <-served; err != nil {
			t.Error(err)
		}
	})
	conn, err := grpc.NewClient(l.Addr().String(), grpc.WithTransportCredentials(insecure.NewCredentials()),
		grpc.WithDefaultCallOptions(grpc.MaxCallRecvMsgSize(16<<20)))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close() })
	return conn
}

// reasonOf returns what a gRPC error says.
func reasonOf(t *testing.T, err error) (*status.Status, *errdetails.ErrorInfo, *errdetails.RetryInfo) {
	t.Helper()
	s, ok := status.FromError(err)
	if !ok {
		t.Fatalf("error is %T: %v", err, err)
	}
	var info *errdetails.ErrorInfo
	var retry *errdetails.RetryInfo
	for _, d := range s.Details() {
		switch d := d.(type) {
		case *errdetails.ErrorInfo:
			info = d
		case *errdetails.RetryInfo:
			retry = d
		}
	}
	return s, info, retry
}

func TestGRPCServesUnaryCalls(t *testing.T) {
	ctx := testContext(t)
	r := setup(t, 3, 4, 0)
	conn := dialGRPC(t, r.servers["eu-1"]) // which leads nothing
	put, got := &atollv1.PutResponse{}, &atollv1.GetResponse{}
	value := make([]byte, maxValueBytes)
	noError(t, conn.Invoke(ctx, atollv1connect.KVPutProcedure, &atollv1.PutRequest{Key: "k", Value: value}, put))
	noError(t, conn.Invoke(ctx, atollv1connect.KVGetProcedure, &atollv1.GetRequest{Key: "k"}, got))
	equal(t, "bytes", len(got.GetValue()), maxValueBytes)
	equal(t, "version", got.GetVersion(), put.GetVersion())
	equal(t, "node", got.GetInfo().GetNode(), "eu-0")
	noError(t, conn.Invoke(ctx, atollv1connect.KVGetProcedure, &atollv1.GetRequest{Key: "k"}, got, grpc.UseCompressor(gzip.Name)))
	top := &atollv1.TopologyResponse{}
	noError(t, conn.Invoke(ctx, atollv1connect.ClusterTopologyProcedure, &atollv1.TopologyRequest{}, top))
	equal(t, "region", top.GetTopology().GetRegion(), "eu")
}

func TestGRPCErrorsCarryTheirReasons(t *testing.T) {
	ctx := testContext(t)
	r := setup(t, 3, 1, 0)
	r.groups[0].leader = "eu-2"
	conn := dialGRPC(t, r.servers["eu-0"])
	get := func(ctx context.Context, key string) error {
		return conn.Invoke(ctx, atollv1connect.KVGetProcedure, &atollv1.GetRequest{Key: key}, &atollv1.GetResponse{})
	}
	s, info, retry := reasonOf(t, get(ctx, ""))
	equal(t, "code", s.Code(), codes.InvalidArgument)
	equal(t, "reason", info.GetReason(), "INVALID_KEY")
	equal(t, "domain", info.GetDomain(), errorDomain)
	equal(t, "field", info.GetMetadata()["field"], "key")
	equal(t, "retry", retry, nil)

	s, info, retry = reasonOf(t, get(metadata.AppendToOutgoingContext(ctx, hopsHeader, "1"), "k"))
	equal(t, "code of one that was forwarded", s.Code(), codes.FailedPrecondition)
	equal(t, "reason", info.GetReason(), "NOT_OWNER")
	equal(t, "node", info.GetMetadata()["node"], "eu-2")
	equal(t, "retry", retry.GetRetryDelay().AsDuration(), rowOf(reasonNotOwner).retry)

	s, info, _ = reasonOf(t, conn.Invoke(ctx, "/atoll.v1.KV/Nothing", &atollv1.GetRequest{}, &atollv1.GetResponse{}))
	equal(t, "code of no procedure", s.Code(), codes.Unimplemented)
	equal(t, "reason", info.GetReason(), "UNIMPLEMENTED")

	large := &atollv1.PutRequest{Key: "k", Value: make([]byte, readMaxBytes+1)}
	s, _, _ = reasonOf(t, conn.Invoke(ctx, atollv1connect.KVPutProcedure, large, &atollv1.PutResponse{}))
	equal(t, "code of too large a request", s.Code(), codes.ResourceExhausted)

	r.groups[0].lead("eu-0")
	r.groups[0].readsFail(func() error { panic("boom") })
	s, _, _ = reasonOf(t, get(ctx, "k"))
	equal(t, "code of a panic", s.Code(), codes.Internal)
}

func TestGRPCPipeline(t *testing.T) {
	r := setup(t, 3, 4, 0)
	conn := dialGRPC(t, r.servers["eu-1"])
	bidi, err := conn.NewStream(testContext(t), &grpc.StreamDesc{ServerStreams: true, ClientStreams: true}, atollv1connect.KVPipelineProcedure)
	noError(t, err)
	for round := range 3 {
		var all []*demand
		for i := range 100 {
			all = append(all, askPut(uint64(i), fmt.Sprint(i), fmt.Sprint(round)))
		}
		noError(t, bidi.SendMsg(packed(all...)))
		for n := 0; n < 100; {
			res := &reply{}
			noError(t, bidi.RecvMsg(res))
			for _, a := range append(res.GetMore(), res) {
				equal(t, "error", a.GetError(), nil)
				n++
			}
		}
	}
	noError(t, bidi.CloseSend())
	if err := bidi.RecvMsg(&reply{}); !errors.Is(err, io.EOF) {
		t.Errorf("ends with %v", err)
	}
}

func TestGRPCStreamsFromTheServer(t *testing.T) {
	ctx := testContext(t)
	r := setup(t, 1, 2, 0)
	fill(t, r.kv("eu-0"), 1000, "v")
	conn := dialGRPC(t, r.servers["eu-0"])
	ask := func(procedure string, q any) grpc.ClientStream {
		s, err := conn.NewStream(ctx, &grpc.StreamDesc{ServerStreams: true}, procedure)
		noError(t, err)
		noError(t, s.SendMsg(q))
		noError(t, s.CloseSend())
		return s
	}
	scan, entries := ask(atollv1connect.KVScanProcedure, &atollv1.ScanRequest{}), 0
	for {
		res := &atollv1.ScanResponse{}
		err := scan.RecvMsg(res)
		if errors.Is(err, io.EOF) {
			break
		}
		noError(t, err)
		entries += len(res.GetEntries())
	}
	equal(t, "entries", entries, 1000)
	w := ask(atollv1connect.KVWatchProcedure, &atollv1.WatchRequest{})
	res := &atollv1.WatchResponse{}
	noError(t, w.RecvMsg(res))
	equal(t, "heartbeat", res.GetHeartbeat() != nil, true)
	mustPut(t, r.kv("eu-0"), "k", "x")
	noError(t, w.RecvMsg(res))
	equal(t, "key", res.GetEvent().GetKey(), "k")
	r.servers["eu-0"].Drain()
	_, info, _ := reasonOf(t, w.RecvMsg(res))
	equal(t, "reason", info.GetReason(), "SHUTTING_DOWN")
}

func TestGRPCHealthAndReflection(t *testing.T) {
	ctx := testContext(t)
	r := setup(t, 1, 1, 0)
	conn := dialGRPC(t, r.servers["eu-0"])
	health, err := healthv1.NewHealthClient(conn).Check(ctx, &healthv1.HealthCheckRequest{Service: "atoll.v1.KV"})
	noError(t, err)
	equal(t, "status", health.GetStatus(), healthv1.HealthCheckResponse_SERVING)
	_, err = healthv1.NewHealthClient(conn).Check(ctx, &healthv1.HealthCheckRequest{Service: "none"})
	equal(t, "code", status.Code(err), codes.NotFound)
	stream, err := reflectionv1.NewServerReflectionClient(conn).ServerReflectionInfo(ctx)
	noError(t, err)
	noError(t, stream.Send(&reflectionv1.ServerReflectionRequest{MessageRequest: &reflectionv1.ServerReflectionRequest_ListServices{}}))
	res, err := stream.Recv()
	noError(t, err)
	equal(t, "services", len(res.GetListServicesResponse().GetService()), len(servedNames()))
	noError(t, stream.Send(&reflectionv1.ServerReflectionRequest{
		MessageRequest: &reflectionv1.ServerReflectionRequest_FileContainingSymbol{FileContainingSymbol: "atoll.v1.KV"},
	}))
	res, err = stream.Recv()
	noError(t, err)
	equal(t, "has a file", len(res.GetFileDescriptorResponse().GetFileDescriptorProto()) > 0, true)
	noError(t, stream.CloseSend())
}

func TestGRPCDeadlinesAndHeadersReachTheHandler(t *testing.T) {
	r := setup(t, 1, 1, 0)
	r.groups[0].lead("")
	conn := dialGRPC(t, r.servers["eu-0"])
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	err := conn.Invoke(ctx, atollv1connect.KVPutProcedure, &atollv1.PutRequest{Key: "k"}, &atollv1.PutResponse{})
	equal(t, "code", status.Code(err), codes.DeadlineExceeded)
	equal(t, "writes", r.groups[0].writes, 0)
}

func BenchmarkGRPC(b *testing.B) {
	s, _ := benchNode(b)
	conn := dialGRPC(b, s)
	b.Run("unary", func(b *testing.B) {
		began := cpu(b)
		b.ReportAllocs()
		b.SetParallelism(32)
		b.RunParallel(func(pb *testing.PB) {
			for i := 0; pb.Next(); i++ {
				q, res := &atollv1.GetRequest{Key: benchKey(i)}, &atollv1.GetResponse{}
				if err := conn.Invoke(b.Context(), atollv1connect.KVGetProcedure, q, res); err != nil {
					b.Fatal(err)
				}
			}
		})
		b.ReportMetric(float64((cpu(b)-began).Nanoseconds())/float64(b.N)/1000, "cpu-us/op")
	})
	for _, callers := range []int{1, 16, 256} {
		b.Run(fmt.Sprintf("pipeline/callers=%d", callers), func(b *testing.B) {
			bidi, err := conn.NewStream(b.Context(), &grpc.StreamDesc{ServerStreams: true, ClientStreams: true}, atollv1connect.KVPipelineProcedure)
			if err != nil {
				b.Fatal(err)
			}
			benchPipeline(b, overGRPC{bidi}, callers, func(i int) *demand { return askGet(uint64(i), benchKey(i)) })
			if err := bidi.CloseSend(); err != nil {
				b.Fatal(err)
			}
			_ = bidi.RecvMsg(&reply{})
		})
	}
}

type overGRPC struct{ grpc.ClientStream }

func (s overGRPC) Send(q *demand) error { return s.SendMsg(q) }

func (s overGRPC) Receive() (*reply, error) {
	res := &reply{}
	return res, s.RecvMsg(res)
}
