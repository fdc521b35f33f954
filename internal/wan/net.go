//go:build linux

package wan

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"sync/atomic"
	"time"

	"golang.org/x/sync/errgroup"
	"golang.org/x/sys/unix"
)

const (
	// maxSites is how many fit into the third byte of an address.
	maxSites = 200
	// maxWaiting bounds the packets on their way from one site to another; more are lost, as in a full queue.
	maxWaiting = 16 << 10
	// maxPacket is more than the largest that the kernel hands over.
	maxPacket = 64 << 10
	device    = "wan0"
	namespace = "/var/run/netns"
)

// NetConfig describes a network of sites.
type NetConfig struct {
	// Sites is how many there are, numbered from 1.
	Sites int
	// Delay is how long a packet takes one way, and Loss how many of a thousand get lost.
	Delay time.Duration
	Loss  int
	// Seed decides which.
	Seed  uint64
	Clock func() time.Time
}

// Net joins network namespaces by a simulated wide area network: real packets of real connections, each late,
// and some lost, so that the kernel's own TCP has to cope. What runs in a site's namespace (ip netns exec) has
// the addresses of the site, and the namespace of whoever made the Net reaches them without delay. It needs
// root and the command ip.
//
// Its methods but Close are safe for concurrent use.
type Net struct {
	config NetConfig
	name   string
	sites  []*site
	lost   atomic.Uint64
	passed atomic.Uint64
	undo   []func() error
}

// site is a namespace with its end of the wide area network.
type site struct {
	namespace string
	tun       *os.File
	// to are the packets on their way to each other site, by number less 1.
	to []chan packet
}

type packet struct {
	data []byte
	due  time.Time
}

// NewNet makes the namespaces. Close undoes that.
func NewNet(ctx context.Context, cfg NetConfig) (*Net, error) {
	if cfg.Sites < 1 || cfg.Sites > maxSites || cfg.Loss < 0 || cfg.Loss > 1000 || cfg.Delay < 0 || cfg.Clock == nil {
		return nil, fmt.Errorf("network of %d sites with %v delay and %d ‰ loss", cfg.Sites, cfg.Delay, cfg.Loss)
	}
	n := &Net{config: cfg, name: fmt.Sprintf("atoll%d", os.Getpid())}
	for i := range cfg.Sites {
		if err := n.addSite(ctx, i+1); err != nil {
			return nil, errors.Join(fmt.Errorf("namespace of site %d, which takes root: %w", i+1, err), n.Close())
		}
	}
	return n, nil
}

// Addr returns a site's address of the given number, 1 to 9.
func (n *Net) Addr(site, number int) string { return fmt.Sprintf("10.77.%d.%d", site, number) }

// Namespace returns the name of a site's namespace.
func (n *Net) Namespace(site int) string { return n.sites[site-1].namespace }

// Packets returns how many went through, and how many got lost.
func (n *Net) Packets() (passed, lost uint64) { return n.passed.Load(), n.lost.Load() }

func ip(ctx context.Context, line string, args ...any) error {
	fields := strings.Fields(fmt.Sprintf(line, args...))
	if out, err := exec.CommandContext(ctx, "ip", fields...).CombinedOutput(); err != nil {
		return fmt.Errorf("ip %s: %w: %s", strings.Join(fields, " "), err, out)
	}
	return nil
}

func (n *Net) addSite(ctx context.Context, i int) error {
	name := fmt.Sprintf("%s-%d", n.name, i)
	if err := ip(ctx, "netns add %s", name); err != nil {
		return err
	}
	// Its devices go with it.
	later := context.WithoutCancel(ctx)
	n.undo = append(n.undo, func() error { return ip(later, "netns del %s", name) })
	tun, err := openTUN(filepath.Join(namespace, name))
	if err != nil {
		return err
	}
	n.undo = append(n.undo, tun.Close)
	s := &site{namespace: name, tun: tun, to: make([]chan packet, n.config.Sites)}
	for j := range s.to {
		s.to[j] = make(chan packet, maxWaiting)
	}
	n.sites = append(n.sites, s)
	near, far := fmt.Sprintf("at%d-%da", os.Getpid(), i), fmt.Sprintf("at%d-%db", os.Getpid(), i)
	lines := []string{
		fmt.Sprintf("-n %s link set lo up", name),
		fmt.Sprintf("link add %s type veth peer name %s netns %s", near, far, name),
		fmt.Sprintf("addr add 10.78.%d.1/30 dev %s", i, near),
		fmt.Sprintf("link set %s up", near),
		fmt.Sprintf("-n %s addr add 10.78.%d.2/30 dev %s", name, i, far),
		fmt.Sprintf("-n %s link set %s up", name, far),
		fmt.Sprintf("route add 10.77.%d.0/24 via 10.78.%d.2", i, i),
		fmt.Sprintf("-n %s link set %s up", name, device),
	}
	for number := range 9 {
		lines = append(lines, fmt.Sprintf("-n %s addr add %s/32 dev lo", name, n.Addr(i, number+1)))
	}
	lines = append(lines, fmt.Sprintf("-n %s route add 10.77.0.0/16 dev %s src %s", name, device, n.Addr(i, 1)))
	for _, line := range lines {
		if err := ip(ctx, "%s", line); err != nil {
			return err
		}
	}
	return nil
}

// openTUN makes the device in a namespace, for which a thread has to go there.
func openTUN(path string) (*os.File, error) {
	type result struct {
		file *os.File
		err  error
	}
	done := make(chan result)
	go func() {
		runtime.LockOSThread() // and never unlocked: the thread ends with the goroutine
		file, err := tunIn(path)
		done <- result{file, err}
	}()
	r := <-done
	return r.file, r.err
}

func tunIn(path string) (*os.File, error) {
	ns, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer ns.Close() // it is only entered
	if err := unix.Setns(int(ns.Fd()), unix.CLONE_NEWNET); err != nil {
		return nil, fmt.Errorf("enter %s: %w", path, err)
	}
	fd, err := unix.Open("/dev/net/tun", unix.O_RDWR|unix.O_CLOEXEC|unix.O_NONBLOCK, 0)
	if err != nil {
		return nil, fmt.Errorf("open /dev/net/tun: %w", err)
	}
	request, err := unix.NewIfreq(device)
	if err == nil {
		request.SetUint16(unix.IFF_TUN | unix.IFF_NO_PI)
		err = unix.IoctlIfreq(fd, unix.TUNSETIFF, request)
	}
	if err != nil {
		return nil, errors.Join(fmt.Errorf("make device %s: %w", device, err), unix.Close(fd))
	}
	return os.NewFile(uintptr(fd), device), nil
}

// Run carries packets until ctx is done or the Net is closed, then returns nil.
func (n *Net) Run(ctx context.Context) error {
	group, ctx := errgroup.WithContext(ctx)
	for i, s := range n.sites {
		random := rand.New(rand.NewPCG(n.config.Seed, uint64(i)))
		group.Go(func() error { return n.read(ctx, s, random) })
		for j, to := range s.to {
			group.Go(func() error { return n.deliver(ctx, to, n.sites[j].tun) })
		}
	}
	group.Go(func() error {
		<-ctx.Done()
		for _, s := range n.sites {
			_ = s.tun.SetReadDeadline(n.config.Clock()) // ends the reads
		}
		return nil
	})
	return group.Wait()
}

// read takes what a site sends, and loses some of it.
func (n *Net) read(ctx context.Context, s *site, random *rand.Rand) error {
	buffer := make([]byte, maxPacket)
	const destinationSite = 18 // third byte of the destination in an IPv4 header
	for {
		size, err := s.tun.Read(buffer)
		if ctx.Err() != nil || errors.Is(err, os.ErrClosed) {
			return nil
		}
		if err != nil {
			return fmt.Errorf("read from %s: %w", s.namespace, err)
		}
		if size < 20 || buffer[0]>>4 != 4 {
			continue // IPv6 looks for neighbours, of which it has none
		}
		to := int(buffer[destinationSite]) - 1
		if to < 0 || to >= len(s.to) || random.IntN(1000) < n.config.Loss {
			n.lost.Add(1)
			continue
		}
		select {
		case s.to[to] <- packet{append([]byte(nil), buffer[:size]...), n.config.Clock().Add(n.config.Delay)}:
		default:
			n.lost.Add(1)
		}
	}
}

// deliver hands over packets when they are due.
func (n *Net) deliver(ctx context.Context, packets <-chan packet, to *os.File) error {
	timer := time.NewTimer(0)
	defer timer.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case p := <-packets:
			if wait := p.due.Sub(n.config.Clock()); wait > 0 {
				timer.Reset(wait)
				select {
				case <-ctx.Done():
					return nil
				case <-timer.C:
				}
			}
			if _, err := to.Write(p.data); errors.Is(err, os.ErrClosed) {
				return nil
			} else if err != nil && ctx.Err() == nil {
				return fmt.Errorf("write to a site: %w", err)
			}
			n.passed.Add(1)
		}
	}
}

// Close removes the namespaces. What runs in them loses its network.
func (n *Net) Close() error {
	var errs []error
	for i := len(n.undo) - 1; i >= 0; i-- {
		errs = append(errs, n.undo[i]())
	}
	n.undo = nil
	return errors.Join(errs...)
}
