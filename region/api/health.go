package api

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"time"

	"connectrpc.com/connect/v2"
	healthv1 "google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"

	"github.com/atolldb/atoll/proto/atoll/v1/atollv1connect"
	"github.com/atolldb/atoll/topology"
)

const (
	healthName = "grpc.health.v1.Health"
	// healthInterval is how often a health watch looks whether something changed.
	healthInterval = time.Second
)

// servedNames are the services that reflection shows and health knows.
func servedNames() []string {
	return []string{atollv1connect.KVName, atollv1connect.RegionsName, atollv1connect.ClusterName, atollv1connect.NamespacesName, healthName}
}

// notReady returns why this node should get no requests for now; nil if it should.
func (s *Server) notReady() error {
	select {
	case <-s.draining:
		return errors.New("the node is shutting down")
	default:
	}
	leaderless := 0
	for id := range s.cluster.Partitions {
		p, err := s.hosted(topology.PartitionID(id))
		if err != nil {
			continue // another node's
		}
		if _, known := p.Leader(); !known {
			leaderless++
		}
	}
	if leaderless > 0 {
		return fmt.Errorf("%d partitions of this node have no leader", leaderless)
	}
	if s.readyCheck != nil {
		return s.readyCheck()
	}
	return nil
}

// serveHealthz says that the process lives.
func (s *Server) serveHealthz(w http.ResponseWriter, _ *http.Request) {
	s.answerJSON(w, http.StatusOK, map[string]any{"status": "ok", "node": s.self, "region": s.region.Name})
}

// serveReadyz says whether the node should get requests, and if not, why.
func (s *Server) serveReadyz(w http.ResponseWriter, _ *http.Request) {
	if err := s.notReady(); err != nil {
		s.answerJSON(w, http.StatusServiceUnavailable, map[string]any{"ready": false, "reason": err.Error()})
		return
	}
	s.answerJSON(w, http.StatusOK, map[string]any{"ready": true})
}

func (s *Server) answerJSON(w http.ResponseWriter, status int, body map[string]any) {
	w.Header().Set("Content-Type", "application/json")
	w.Header().Set("Cache-Control", "no-store")
	w.WriteHeader(status)
	if err := json.NewEncoder(w).Encode(body); err != nil {
		s.logger.Debug("health answer not sent", "err", err)
	}
}

// registerHealth adds grpc.health.v1.
func (s *Server) registerHealth(rpc *connect.Server) {
	service := healthv1.File_grpc_health_v1_health_proto.Services().ByName("Health")
	method := func(name protoreflect.Name, kind connect.StreamType, h connect.ServerFunc) connect.Method {
		return connect.Method{Handler: h, Spec: connect.Spec{
			StreamType: kind, Schema: service.Methods().ByName(name), Procedure: "/" + healthName + "/" + string(name),
		}}
	}
	rpc.Register(
		method("Check", connect.StreamTypeUnary, s.healthCheck),
		method("List", connect.StreamTypeUnary, s.healthList),
		method("Watch", connect.StreamTypeServer, s.healthWatch),
	)
}

func (s *Server) healthOf(service string) healthv1.HealthCheckResponse_ServingStatus {
	known := service == ""
	for _, name := range servedNames() {
		known = known || name == service
	}
	switch {
	case !known:
		return healthv1.HealthCheckResponse_SERVICE_UNKNOWN
	case s.notReady() != nil:
		return healthv1.HealthCheckResponse_NOT_SERVING
	default:
		return healthv1.HealthCheckResponse_SERVING
	}
}

func (s *Server) healthCheck(_ context.Context, _ connect.Spec, stream connect.ServerStream) error {
	var req healthv1.HealthCheckRequest
	if err := stream.Receive(&req); err != nil {
		return err
	}
	status := s.healthOf(req.GetService())
	if status == healthv1.HealthCheckResponse_SERVICE_UNKNOWN {
		// The health protocol wants this code.
		f := fail(reasonInvalidArgument, "there is no service "+req.GetService(), "field", "service")
		f.code = connect.CodeNotFound
		return f
	}
	return stream.Send(&healthv1.HealthCheckResponse{Status: status})
}

func (s *Server) healthList(_ context.Context, _ connect.Spec, stream connect.ServerStream) error {
	if err := stream.Receive(proto.Message(&healthv1.HealthListRequest{})); err != nil {
		return err
	}
	res := &healthv1.HealthListResponse{Statuses: map[string]*healthv1.HealthCheckResponse{}}
	for _, name := range append(servedNames(), "") {
		res.Statuses[name] = &healthv1.HealthCheckResponse{Status: s.healthOf(name)}
	}
	return stream.Send(res)
}

// healthWatch sends the status now and whenever it changes, until the client leaves or the node
// shuts down.
func (s *Server) healthWatch(ctx context.Context, _ connect.Spec, stream connect.ServerStream) error {
	var req healthv1.HealthCheckRequest
	if err := stream.Receive(&req); err != nil {
		return err
	}
	tick := time.NewTicker(healthInterval)
	defer tick.Stop()
	var sent *healthv1.HealthCheckResponse
	for {
		if now := (&healthv1.HealthCheckResponse{Status: s.healthOf(req.GetService())}); !proto.Equal(now, sent) {
			if err := stream.Send(now); err != nil {
				return err
			}
			sent = now
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-s.draining:
			if err := stream.Send(&healthv1.HealthCheckResponse{Status: healthv1.HealthCheckResponse_NOT_SERVING}); err != nil {
				return err
			}
			return fail(reasonShuttingDown, "this node is shutting down; watch another")
		case <-tick.C:
		}
	}
}
