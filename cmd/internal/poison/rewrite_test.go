package poison

import (
	"context"
	"errors"
	"net/http"
	"net/http/httptest"
	"testing"
	"time"

	"connectrpc.com/connect/v2"
	"connectrpc.com/connect/v2/connecthttp"
	"connectrpc.com/connect/v2/connectproto"
	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/protobuf/types/known/durationpb"

	"github.com/atolldb/atoll/client"
	"github.com/atolldb/atoll/internal/testkit"
	atollv1 "github.com/atolldb/atoll/proto/atoll/v1"
	"github.com/atolldb/atoll/proto/atoll/v1/atollv1connect"
)

func TestMain(m *testing.M) { testkit.Main(m) }

// soundRegion is a region with one register, or none, under every key.
type soundRegion struct {
	atollv1connect.UnimplementedKVHandler
	atollv1connect.UnimplementedRegionsHandler
	now     *atollv1.GetResponse
	explain *atollv1.ExplainResponse
	// refuse is the answer to a write.
	refuse error
	put    *atollv1.PutRequest
	del    *atollv1.DeleteRequest
	pages  []*atollv1.FutureValuesResponse
}

func (s *soundRegion) Get(context.Context, *atollv1.GetRequest) (*atollv1.GetResponse, error) {
	return s.now, nil
}

func (s *soundRegion) Explain(context.Context, *atollv1.ExplainRequest) (*atollv1.ExplainResponse, error) {
	return s.explain, nil
}

func (s *soundRegion) Put(_ context.Context, r *atollv1.PutRequest) (*atollv1.PutResponse, error) {
	s.put = r
	return &atollv1.PutResponse{}, s.refuse
}

func (s *soundRegion) Delete(_ context.Context, r *atollv1.DeleteRequest) (*atollv1.DeleteResponse, error) {
	s.del = r
	return &atollv1.DeleteResponse{}, s.refuse
}

func (s *soundRegion) FutureValues(context.Context, *atollv1.FutureValuesRequest) (*atollv1.FutureValuesResponse, error) {
	page := s.pages[0]
	if s.pages = s.pages[1:]; len(s.pages) > 0 {
		page.Cursor = []byte{1}
	}
	return page, nil
}

func (s *soundRegion) client(t *testing.T) *client.Client {
	t.Helper()
	rpc := connect.NewServer()
	atollv1connect.RegisterKVHandler(rpc, s)
	atollv1connect.RegisterRegionsHandler(rpc, s)
	mux := http.NewServeMux()
	connecthttp.Mount(mux, rpc)
	web := httptest.NewServer(mux)
	t.Cleanup(web.Close)
	c, err := client.New([]string{web.URL}, client.WithUnary(), client.WithMaxAttempts(1))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Close() })
	return c
}

// holds has the region hold a register that an event of a region made.
func (s *soundRegion) holds(value, region string, seq uint64) {
	s.now = &atollv1.GetResponse{Found: true, Value: []byte(value), Type: atollv1.Type_TYPE_LWW_REGISTER, Version: "v" + value}
	s.explain = &atollv1.ExplainResponse{Objects: []*atollv1.ExplainedObject{{
		Type: atollv1.Type_TYPE_LWW_REGISTER, Version: "v" + value,
		Detail: &atollv1.ExplainedObject_Register{Register: &atollv1.ExplainRegister{Winner: &atollv1.Event{Region: region, Seq: seq}}},
	}}}
}

func (s *soundRegion) holdsNothing() {
	s.now, s.explain = &atollv1.GetResponse{}, &atollv1.ExplainResponse{}
}

// found is a register that the poisoned region, ap, wrote with its event 10, having applied eu's events up to 5.
func found(value string) *atollv1.FutureValue {
	return &atollv1.FutureValue{
		Namespace: "n", Key: "k", Type: atollv1.Type_TYPE_LWW_REGISTER, Lacking: []string{"eu", "us"}, OnlyHere: true,
		Event:    &atollv1.Event{Region: "ap", Epoch: 2, Seq: 10},
		Register: &atollv1.FutureRegister{Deleted: value == "", Value: []byte(value), Seen: []*atollv1.VectorEntry{{Region: "eu", Seq: 5}}},
	}
}

func refusal(code connect.Code, r client.Reason, metadata map[string]string) error {
	detail, err := connectproto.NewErrorDetail(&errdetails.ErrorInfo{Domain: "atoll", Reason: string(r), Metadata: metadata})
	if err != nil {
		panic(err)
	}
	return connect.NewError(code, string(r)).WithDetail(detail)
}

// rewriteCase is what a region holds, and what becomes of a value there.
type rewriteCase struct {
	value   string
	prepare func(*soundRegion, *atollv1.FutureValue, *Rewriter)
	want    Outcome
	// version is the condition of the write, "-" that there is nothing, and empty that nothing is written.
	version string
}

func heard(epoch uint32, seq uint64) func(*soundRegion, *atollv1.FutureValue, *Rewriter) {
	return func(s *soundRegion, _ *atollv1.FutureValue, _ *Rewriter) {
		s.holds("1", "eu", 6)
		s.explain.Heard = []*atollv1.VectorEntry{{Region: "ap", Epoch: epoch, Seq: seq}}
	}
}

var rewriteCases = map[string]rewriteCase{
	"absent":           {"2", nil, Written, "-"},
	"seen":             {"2", func(s *soundRegion, _ *atollv1.FutureValue, _ *Rewriter) { s.holds("1", "eu", 5) }, Written, "v1"},
	"not seen":         {"2", func(s *soundRegion, _ *atollv1.FutureValue, _ *Rewriter) { s.holds("1", "eu", 6) }, Changed, ""},
	"of a third":       {"2", func(s *soundRegion, _ *atollv1.FutureValue, _ *Rewriter) { s.holds("1", "us", 1) }, Changed, ""},
	"heard":            {"2", heard(2, 9), Written, "v1"},
	"heard too late":   {"2", heard(2, 10), Changed, ""},
	"heard of another": {"2", heard(1, 9), Changed, ""},
	"overwritten": {"2", func(s *soundRegion, _ *atollv1.FutureValue, w *Rewriter) {
		s.holds("1", "us", 1)
		w.Overwrite = true
	}, Written, "v1"},
	"deleted unseen": {"2", func(s *soundRegion, _ *atollv1.FutureValue, _ *Rewriter) {
		s.holds("", "us", 1)
		s.now = &atollv1.GetResponse{}
	}, Changed, ""},
	"deleted as seen": {"2", func(s *soundRegion, _ *atollv1.FutureValue, _ *Rewriter) {
		s.holds("", "eu", 1)
		s.now = &atollv1.GetResponse{}
	}, Written, "-"},
	"written since it was judged": {"2", func(s *soundRegion, _ *atollv1.FutureValue, _ *Rewriter) {
		s.holds("1", "eu", 5)
		s.now.Version = "v3"
	}, Written, "v1"},
	"made since it was judged": {"2", func(s *soundRegion, _ *atollv1.FutureValue, _ *Rewriter) {
		s.holds("1", "eu", 5)
		s.explain = &atollv1.ExplainResponse{}
	}, Written, "-"},
	"the same":        {"2", func(s *soundRegion, _ *atollv1.FutureValue, _ *Rewriter) { s.holds("2", "us", 1) }, Same, ""},
	"delete":          {"", func(s *soundRegion, _ *atollv1.FutureValue, _ *Rewriter) { s.holds("1", "eu", 1) }, Written, "v1"},
	"delete unseen":   {"", func(s *soundRegion, _ *atollv1.FutureValue, _ *Rewriter) { s.holds("1", "us", 1) }, Changed, ""},
	"delete of none":  {"", nil, Same, ""},
	"dry":             {"2", func(_ *soundRegion, _ *atollv1.FutureValue, w *Rewriter) { w.DryRun = true }, Would, ""},
	"taken":           {"2", func(_ *soundRegion, v *atollv1.FutureValue, _ *Rewriter) { v.Lacking = []string{"us"} }, Taken, ""},
	"expired":         {"2", func(_ *soundRegion, v *atollv1.FutureValue, _ *Rewriter) { v.Register.Expired = true }, Expired, ""},
	"with a home":     {"2", func(_ *soundRegion, v *atollv1.FutureValue, _ *Rewriter) { v.Home = true }, Home, ""},
	"not a register":  {"2", func(_ *soundRegion, v *atollv1.FutureValue, _ *Rewriter) { v.Register = nil }, NoRegister, ""},
	"another type":    {"2", func(s *soundRegion, _ *atollv1.FutureValue, _ *Rewriter) { s.holds("1", "eu", 1); s.now.Type = 2 }, OtherType, ""},
	"changed by then": {"2", refuses(connect.CodeFailedPrecondition, client.ReasonVersionMismatch, nil), Changed, "-"},
	"made by then":    {"2", refuses(connect.CodeAlreadyExists, client.ReasonAlreadyExists, nil), Changed, "-"},
	"typed by then":   {"2", refuses(connect.CodeFailedPrecondition, client.ReasonWrongType, nil), OtherType, "-"},
	"written before": {"2", refuses(connect.CodeInvalidArgument, client.ReasonInvalidArgument,
		map[string]string{"field": "options.op_id"}), Changed, "-"},
}

// What is written depends on what the sound region has, and on what the poisoned one had seen of it.
func TestRewriteKeepsWhatWasNotSeen(t *testing.T) {
	for name, c := range rewriteCases {
		t.Run(name, func(t *testing.T) {
			s := &soundRegion{}
			s.holdsNothing()
			w, v := Rewriter{Region: "eu"}, found(c.value)
			if c.prepare != nil {
				c.prepare(s, v, &w)
			}
			w.Sound = s.client(t)
			outcome, err := w.Rewrite(t.Context(), v)
			if err != nil || outcome != c.want {
				t.Fatalf("%q, %v; want %q", outcome, err, c.want)
			}
			s.wasAsked(t, v, c.version)
		})
	}
}

func refuses(code connect.Code, r client.Reason, metadata map[string]string) func(*soundRegion, *atollv1.FutureValue, *Rewriter) {
	return func(s *soundRegion, _ *atollv1.FutureValue, _ *Rewriter) { s.refuse = refusal(code, r, metadata) }
}

// wasAsked checks on which condition, and under which operation id, a region was asked to write.
func (s *soundRegion) wasAsked(t *testing.T, v *atollv1.FutureValue, version string) {
	t.Helper()
	condition, options := s.put.GetCondition(), s.put.GetOptions()
	if s.del != nil {
		condition, options = s.del.GetCondition(), s.del.GetOptions()
	}
	got := condition.GetIfVersion()
	if condition.GetIfAbsent() {
		got = "-"
	}
	if written := s.put != nil || s.del != nil; got != version || written != (version != "") {
		t.Errorf("a write on the condition %q, not %q", got, version)
	} else if written && options.GetOpId() != OpID(v) {
		t.Errorf("a write under %q", options.GetOpId())
	}
}

// What cannot be told is an error, and a time to live goes along, also one that is over in a moment.
func TestRewriteFailsAndExpires(t *testing.T) {
	s := &soundRegion{refuse: refusal(connect.CodeUnknown, client.ReasonOutcomeUnknown, nil)}
	s.holdsNothing()
	w := Rewriter{Sound: s.client(t), Region: "eu"}
	if outcome, err := w.Rewrite(t.Context(), found("2")); !errors.Is(err, client.ErrOutcomeUnknown) || outcome != "" {
		t.Errorf("%q, %v", outcome, err)
	}
	if s.put.GetTtl() != nil {
		t.Errorf("a value that stays got %v", s.put.GetTtl())
	}
	for left, want := range map[time.Duration]time.Duration{time.Hour: time.Hour, 0: time.Millisecond} {
		v := found("2")
		v.Register.Ttl = durationpb.New(left)
		s.refuse = nil
		if _, err := w.Rewrite(t.Context(), v); err != nil || s.put.GetTtl().AsDuration() != want {
			t.Errorf("with %v left: %v, %v", left, s.put.GetTtl().AsDuration(), err)
		}
	}
}

func TestOpIDsAreOfOneEvent(t *testing.T) {
	ids := map[string]bool{OpID(found("1")): true}
	if !ids[OpID(found("2"))] {
		t.Error("two ids of one event")
	}
	for _, change := range []func(*atollv1.FutureValue){
		func(v *atollv1.FutureValue) { v.Namespace = "m" }, func(v *atollv1.FutureValue) { v.Key = "l" },
		func(v *atollv1.FutureValue) { v.Namespace, v.Key = "nk", "" }, func(v *atollv1.FutureValue) { v.Event.Region = "eu" },
		func(v *atollv1.FutureValue) { v.Event.Epoch++ }, func(v *atollv1.FutureValue) { v.Event.Seq++ },
	} {
		v := found("1")
		if change(v); ids[OpID(v)] || len(OpID(v)) > 64 {
			t.Errorf("%s of %v", OpID(v), v)
		}
		ids[OpID(v)] = true
	}
}

// A region is sound if neither its clock nor anything that it holds is ahead, on any page.
func TestPresentOfSoundRegions(t *testing.T) {
	page := func(clock time.Duration, values ...*atollv1.FutureValue) *atollv1.FutureValuesResponse {
		return &atollv1.FutureValuesResponse{
			Region: "eu", PresentMs: 7000, Ahead: durationpb.New(10 * time.Second), ClockAhead: durationpb.New(clock), Values: values,
		}
	}
	failed := page(0)
	failed.Errors = []*atollv1.PartitionError{{Partition: 1, Error: &atollv1.Error{Message: "no leader"}}}
	for name, c := range map[string]struct {
		pages []*atollv1.FutureValuesResponse
		want  error
	}{
		"sound":           {[]*atollv1.FutureValuesResponse{page(10 * time.Second), page(0)}, nil},
		"clock":           {[]*atollv1.FutureValuesResponse{page(11 * time.Second)}, ErrUnsound},
		"value":           {[]*atollv1.FutureValuesResponse{page(0), page(0, found("1"))}, ErrUnsound},
		"does not answer": {[]*atollv1.FutureValuesResponse{page(0), failed}, client.ErrUnavailable},
	} {
		s := &soundRegion{pages: c.pages}
		region, present, err := Present(t.Context(), s.client(t))
		if region != "eu" || present != time.UnixMilli(7000) || !errors.Is(err, c.want) || (c.want == nil) != (err == nil) {
			t.Errorf("%s: %s at %v, %v", name, region, present, err)
		}
	}
}
