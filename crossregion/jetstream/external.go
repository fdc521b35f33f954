package jetstream

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"strings"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/atolldb/atoll/topology"
)

// External describes a NATS that is not embedded, and what a region needs of it.
type External struct {
	URLs     []string
	Password string
	Region   topology.RegionID
	// Replicas and MaxStreamBytes are those of Config.
	Replicas       int
	MaxStreamBytes int64
}

// The first version whose consumers and streams behave as the adapter expects.
const leastMajor, leastMinor = 2, 14

// CheckExternal connects to a NATS and returns everything that makes it too weak to replicate over,
// joined: each fault names the setting, what it is and what it must be. It changes nothing there.
func CheckExternal(ctx context.Context, e External) error {
	if e.MaxStreamBytes == 0 {
		e.MaxStreamBytes = defaultStreamBytes
	}
	urls := strings.Join(e.URLs, ",")
	nc, err := nats.Connect(urls, nats.UserInfo(user, e.Password), nats.Timeout(apiPatience), nats.NoReconnect())
	if err != nil {
		return fmt.Errorf("external NATS %s: %w", urls, err)
	}
	defer nc.Close()
	js, err := jetstream.New(nc)
	if err != nil {
		return fmt.Errorf("external NATS %s: %w", urls, err)
	}
	faults := append(serverFaults(nc), jetStreamFaults(ctx, js, e)...)
	if len(faults) == 0 {
		return nil
	}
	return fmt.Errorf("external NATS %s is not usable: %w", urls, errors.Join(faults...))
}

func serverFaults(nc *nats.Conn) []error {
	var faults []error
	if nc.MaxPayload() < maxPayload {
		faults = append(faults, fmt.Errorf("max_payload is %d: must be %d", nc.MaxPayload(), maxPayload))
	}
	if v := nc.ConnectedServerVersion(); !recent(v) {
		faults = append(faults, fmt.Errorf("server version is %s: must be %d.%d or later", v, leastMajor, leastMinor))
	}
	return faults
}

func recent(version string) bool {
	parts := strings.SplitN(version, ".", 3)
	if len(parts) < 3 {
		return false
	}
	major, err1 := strconv.Atoi(parts[0])
	minor, err2 := strconv.Atoi(parts[1])
	return err1 == nil && err2 == nil && (major > leastMajor || major == leastMajor && minor >= leastMinor)
}

func jetStreamFaults(ctx context.Context, js jetstream.JetStream, e External) []error {
	ctx, cancel := context.WithTimeout(ctx, publishPatience)
	defer cancel()
	info, err := js.AccountInfo(ctx)
	switch {
	case errors.Is(err, jetstream.ErrJetStreamNotEnabled), errors.Is(err, jetstream.ErrJetStreamNotEnabledForAccount), errors.Is(err, nats.ErrNoResponders):
		return []error{errors.New("JetStream is not enabled: it must be, for the account of this user")}
	case err != nil:
		return []error{fmt.Errorf("JetStream does not answer: it must have a leader, and this user the right to ask it: %w", err)}
	}
	var faults []error
	stored := e.MaxStreamBytes * int64(e.Replicas)
	if limit := info.Limits.MaxStore; limit >= 0 && limit < stored {
		faults = append(faults, fmt.Errorf("account storage limit is %d: must be %d for %d replicas", limit, stored, e.Replicas))
	}
	want := streamConfig(e.Region, e.Replicas, e.MaxStreamBytes)
	s, err := js.Stream(ctx, want.Name)
	switch {
	case errors.Is(err, jetstream.ErrStreamNotFound): // it will be made as it has to be
	case err != nil:
		faults = append(faults, fmt.Errorf("stream %s cannot be looked at: %w", want.Name, err))
	default:
		for _, f := range streamFaults(s.CachedInfo().Config, want) {
			faults = append(faults, fmt.Errorf("stream %s: %s", want.Name, f))
		}
	}
	return faults
}
