package api

import (
	"context"
	"encoding/base64"
	"errors"
	"io"
	"strings"
	"time"

	"connectrpc.com/connect/v2"
	spb "google.golang.org/genproto/googleapis/rpc/status"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	_ "google.golang.org/grpc/encoding/gzip" // for clients that compress
	"google.golang.org/grpc/keepalive"
	"google.golang.org/grpc/metadata"
	grpcpeer "google.golang.org/grpc/peer"
	"google.golang.org/grpc/reflection"
	reflectionv1 "google.golang.org/grpc/reflection/grpc_reflection_v1"
	reflectionv1alpha "google.golang.org/grpc/reflection/grpc_reflection_v1alpha"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/known/anypb"
)

const (
	grpcStreams = 1000 // at a time, over one connection
	// A stream may have this much on its way before the handler reads it.
	grpcStreamWindow = 1 << 20
	grpcConnWindow   = 4 << 20
	// A client that says nothing is asked whether it lives, and may itself ask so often.
	grpcKeepalive        = 30 * time.Second
	grpcKeepaliveTimeout = 10 * time.Second
	grpcMinPing          = 5 * time.Second
)

// GRPC returns a server for a port of its own that speaks gRPC only. It serves what Handler serves,
// by the same handlers, and costs less: its transport is grpc-go's. (That refuses a message over the
// limit by itself, with RESOURCE_EXHAUSTED and no details.) Stop it after Drain.
func (s *Server) GRPC(options ...grpc.ServerOption) *grpc.Server {
	rpc := s.newRPC()
	kinds := map[string]connect.StreamType{}
	for spec := range rpc.Specs() {
		kinds[spec.Procedure] = spec.StreamType
	}
	server := grpc.NewServer(append([]grpc.ServerOption{
		grpc.UnknownServiceHandler(func(_ any, stream grpc.ServerStream) error { return serveGRPC(rpc, kinds, stream) }),
		grpc.MaxRecvMsgSize(readMaxBytes),
		grpc.MaxConcurrentStreams(grpcStreams),
		grpc.InitialWindowSize(grpcStreamWindow),
		grpc.InitialConnWindowSize(grpcConnWindow),
		grpc.WaitForHandlers(true),
		grpc.KeepaliveParams(keepalive.ServerParameters{Time: grpcKeepalive, Timeout: grpcKeepaliveTimeout}),
		grpc.KeepaliveEnforcementPolicy(keepalive.EnforcementPolicy{MinTime: grpcMinPing, PermitWithoutStream: true}),
	}, options...)...)
	shown := reflection.ServerOptions{Services: serviceNames(servedNames())}
	reflectionv1.RegisterServerReflectionServer(server, reflection.NewServerV1(shown))
	reflectionv1alpha.RegisterServerReflectionServer(server, reflection.NewServer(shown))
	return server
}

// serviceNames are what reflection shows.
type serviceNames []string

// GetServiceInfo returns the names, which is all that reflection asks for.
func (names serviceNames) GetServiceInfo() map[string]grpc.ServiceInfo {
	info := make(map[string]grpc.ServiceInfo, len(names))
	for _, name := range names {
		info[name] = grpc.ServiceInfo{}
	}
	return info
}

// serveGRPC has the Connect server serve a call that came over grpc-go's transport.
func serveGRPC(rpc *connect.Server, kinds map[string]connect.StreamType, transport grpc.ServerStream) error {
	procedure, _ := grpc.MethodFromServerStream(transport)
	ctx := transport.Context()
	info := &connect.CallInfo{Protocol: connect.ProtocolNameGRPC, Codec: connect.CodecNameProto}
	if from, ok := grpcpeer.FromContext(ctx); ok {
		info.PeerAddr = from.Addr.String()
	}
	if headers, ok := metadata.FromIncomingContext(ctx); ok {
		fromMetadata(info.RequestHeader(), headers)
	}
	kind, known := kinds[procedure]
	stream := &grpcStream{transport: transport, info: info, single: known && kind&connect.StreamTypeClient == 0}
	err := rpc.Call(ctx, procedure, info, stream)
	if trailer := toMetadata(info.ResponseTrailer()); len(trailer) > 0 {
		transport.SetTrailer(trailer)
	}
	return statusOf(err)
}

// grpcStream is a call over grpc-go's transport as Connect's handlers see it.
type grpcStream struct {
	transport grpc.ServerStream
	info      *connect.CallInfo
	single    bool // there is one request only
	received  bool
	opened    bool
}

// Receive reads the next request.
func (g *grpcStream) Receive(msg any) error {
	if g.single && g.received {
		return io.EOF
	}
	err := g.transport.RecvMsg(msg)
	if err == nil {
		g.received = true
		return nil
	}
	if errors.Is(err, io.EOF) {
		if g.single {
			return connect.NewError(connect.CodeInvalidArgument, "there is no request")
		}
		return io.EOF
	}
	return fromStatus(err)
}

// SendHeaders sends the response's headers, unless they are on their way.
func (g *grpcStream) SendHeaders() error {
	if g.opened {
		return nil
	}
	g.opened = true
	return fromStatus(g.transport.SendHeader(toMetadata(g.info.ResponseHeader())))
}

// Send sends the next response, and the headers before the first.
func (g *grpcStream) Send(msg any) error {
	if !g.opened {
		g.opened = true
		if headers := toMetadata(g.info.ResponseHeader()); len(headers) > 0 {
			if err := g.transport.SetHeader(headers); err != nil {
				return fromStatus(err)
			}
		}
	}
	return fromStatus(g.transport.SendMsg(msg))
}

// statusOf returns a handler's error as gRPC sends it, with its details.
func statusOf(err error) error {
	if err == nil {
		return nil
	}
	e, ok := errors.AsType[*connect.Error](err)
	if !ok {
		return status.Error(codes.Unknown, "") // as Connect does: the text was not written for clients
	}
	s := &spb.Status{Code: int32(e.Code()), Message: e.Message()} // the codes are the same
	for _, d := range e.Details() {
		s.Details = append(s.Details, &anypb.Any{TypeUrl: "type.googleapis.com/" + d.Type, Value: d.Value})
	}
	return status.ErrorProto(s)
}

// fromStatus returns an error of the transport as Connect's would.
func fromStatus(err error) error {
	if err == nil || errors.Is(err, context.Canceled) || errors.Is(err, context.DeadlineExceeded) {
		return err
	}
	if s, ok := status.FromError(err); ok {
		return connect.NewError(connect.Code(s.Code()), s.Message()).WithCause(err)
	}
	return err
}

const binarySuffix = "-bin"

// fromMetadata copies headers. gRPC has decoded the binary ones, which Connect does not expect.
func fromMetadata(to *connect.Header, from metadata.MD) {
	for key, values := range from {
		if strings.HasPrefix(key, ":") {
			continue
		}
		for _, v := range values {
			if strings.HasSuffix(key, binarySuffix) {
				v = base64.RawStdEncoding.EncodeToString([]byte(v))
			}
			to.Add(key, v)
		}
	}
}

func toMetadata(from *connect.Header) metadata.MD {
	to := metadata.MD{}
	for key, values := range from.All() {
		for _, v := range values {
			if strings.HasSuffix(strings.ToLower(key), binarySuffix) {
				if raw, err := connect.DecodeBinaryHeader(v); err == nil {
					v = string(raw)
				}
			}
			to.Append(key, v)
		}
	}
	return to
}
