package region

import (
	"errors"

	"github.com/atolldb/atoll/crdt/replica"
	logv1 "github.com/atolldb/atoll/proto/atoll/log/v1"
	"github.com/atolldb/atoll/topology"
)

// WriteHome is Partition.WriteHome up to its proposal.
func (s *Steps) WriteHome(opID string, ops []replica.Op, first bool) (*logv1.Command, error) {
	return s.p.writeHomeCommand(opID, ops, first)
}

// MoveHome is Partition.MoveHome up to its first proposal: of a home that never wrote, that is to say that it is one, and the
// same call goes on after that.
func (s *Steps) MoveHome(namespace string, to topology.RegionID, first bool) (command *logv1.Command, err error) {
	err = s.p.moveHome(namespace, to, first, func(c *logv1.Command) error {
		command = c
		return errProposed
	})
	if errors.Is(err, errProposed) {
		err = nil
	}
	return command, err
}

// TakeHome is Partition.TakeHome up to its proposal.
func (s *Steps) TakeHome(namespace string, former topology.RegionID) (*logv1.Command, error) {
	return s.p.takeHomeCommand(namespace, former)
}

// Home is Partition.Home as this replica has it, whatever its leader has.
func (s *Steps) Home(namespace string, first bool) (state HomeState, err error) {
	err = s.p.machine.Read(func(r *replica.Replica) error {
		state, err = s.p.homeState(r, namespace, first)
		return err
	})
	return state, err
}
