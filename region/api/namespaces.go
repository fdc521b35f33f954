package api

import (
	"github.com/atolldb/atoll/crdt"
	"github.com/atolldb/atoll/crdt/replica"
)

// bind refuses an operation that the type of its namespace does not have, and turns what can be on any type
// into an operation on that one: a put of a multi-value register, and untyped deletes and expiries.
func (s *Server) bind(op *replica.Op) *failure {
	fixed := s.namespaces[op.Namespace]
	if fixed == 0 {
		return nil
	}
	if !op.Path.IsRoot() { // on a map, whatever its leaf is
		if fixed != crdt.TypeORMap {
			return otherType(fixed)
		}
		return nil
	}
	switch op.Kind {
	case replica.OpPut:
		if fixed == crdt.TypeMVRegister {
			if op.Condition.Kind == replica.CondValue {
				return invalid("condition.if_value", "only registers have a value to compare; use if_version")
			}
			op.Kind, op.Type = replica.OpMVPut, fixed
		}
	case replica.OpDelete, replica.OpExpire, replica.OpPersist:
		if op.Type == 0 {
			op.Type = fixed
		}
	}
	if op.Type != fixed {
		return otherType(fixed)
	}
	if s.growOnly[op.Namespace] && !grows(op) {
		return invalid("op", "the namespace is grow-only: its values of type %v take additions only", fixed)
	}
	return nil
}

// grows reports whether an operation on a counter or a set takes nothing away.
func grows(op *replica.Op) bool {
	switch op.Kind {
	case replica.OpCounterAdd:
		return op.Delta >= 0 && op.Expires == 0
	case replica.OpSetAdd, replica.OpPersist:
		return op.Expires == 0
	default:
		return false
	}
}

// about returns those of the types that a namespace can have, or why there is none.
func (s *Server) about(namespace string, types []*typeAPI) ([]*typeAPI, *failure) {
	fixed := s.namespaces[namespace]
	if fixed == 0 {
		return types, nil
	}
	for i, t := range types {
		if t.of == fixed {
			return types[i : i+1], nil
		}
	}
	return nil, otherType(fixed)
}

// otherType refuses an operation or a query of a type that is not the namespace's.
func otherType(fixed crdt.Type) *failure {
	return fail(reasonWrongType, "the namespace has values of type "+fixed.String()+" only", "type_found", fixed.String())
}
