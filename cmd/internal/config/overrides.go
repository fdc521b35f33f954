package config

import (
	"errors"
	"fmt"

	"buf.build/go/protovalidate"
	"google.golang.org/protobuf/proto"

	configv1 "github.com/atolldb/atoll/proto/atoll/config/v1"
)

// override is one value from outside the file.
type override struct {
	field  string // the path in the message
	origin string // what to blame: "--node" or "ATOLL_NODE"
	value  string
}

func collect(flags Overrides, getenv func(string) string) []override {
	var out []override
	for _, o := range []struct{ field, flag, given, env string }{
		{"node", "--node", flags.Node, "ATOLL_NODE"},
		{"data_dir", "--data-dir", flags.DataDir, "ATOLL_DATA_DIR"},
		{"log_level", "--log-level", flags.LogLevel, "ATOLL_LOG_LEVEL"},
		{"nats.url", "--nats-url", flags.NATSURL, "ATOLL_NATS_URL"},
	} {
		if o.given != "" {
			out = append(out, override{o.field, o.flag, o.given})
		} else if v := getenv(o.env); v != "" {
			out = append(out, override{o.field, o.env, v})
		}
	}
	return out
}

func (o override) apply(s *configv1.Server) {
	switch o.field {
	case "node":
		s.Node = o.value
	case "data_dir":
		s.DataDir = o.value
	case "log_level":
		s.LogLevel = o.value
	case "nats.url":
		if s.Nats == nil {
			s.Nats = &configv1.Nats{}
		}
		s.Nats.Url = o.value
	}
}

// validator is protoyaml's hook between decoding and reporting: what it returns is shown with lines
// of the file. Values from outside the file are put in first, so that a file may leave them to flags;
// their faults are kept apart, because no line of the file is to blame.
type validator struct {
	overrides []override
	ran       bool
	outside   error
}

// Validate implements protoyaml.Validator.
func (v *validator) Validate(m proto.Message) error {
	v.ran = true
	s, ok := m.(*configv1.Server)
	if !ok {
		return fmt.Errorf("unexpected message %T", m)
	}
	origins := map[string]string{}
	for _, o := range v.overrides {
		o.apply(s)
		origins[o.field] = o.origin
	}
	applyDefaults(s)
	var all protovalidate.ValidationError
	var rules *protovalidate.ValidationError
	if err := protovalidate.Validate(s); errors.As(err, &rules) {
		all.Violations = rules.Violations
	} else if err != nil {
		return err
	}
	all.Violations = append(all.Violations, crossCheck(s, all.Violations)...)
	var inside []*protovalidate.Violation
	for _, violation := range all.Violations {
		path := protovalidate.FieldPathString(violation.Proto.GetField())
		if origin := origins[path]; origin != "" {
			v.outside = errors.Join(v.outside, fmt.Errorf("%s: %s (%s)", origin, violation.Proto.GetMessage(), violation.Proto.GetRuleId()))
			continue
		}
		inside = append(inside, violation)
	}
	if len(inside) == 0 {
		return nil
	}
	return &protovalidate.ValidationError{Violations: inside}
}
