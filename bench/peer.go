package main

import (
	"flag"
	"fmt"
	"os"

	natsd "github.com/nats-io/nats-server/v2/server"
	"go.etcd.io/etcd/server/v3/etcdmain"
)

// servePeer is the first argument by which this program knows that it is to be a peer's server.
const servePeer = "serve-peer"

// runPeer is the process of one server of a peer, started just as the peer's own program starts it.
func runPeer(name string, args []string) {
	switch name {
	case "etcd":
		etcdmain.Main(append([]string{"etcd"}, args...))
	case "nats":
		if err := natsMain(args); err != nil {
			natsd.PrintAndDie("nats-server: " + err.Error())
		}
	default:
		natsd.PrintAndDie("unknown peer " + name)
	}
}

// natsMain is what nats-server's main function does.
func natsMain(args []string) error {
	flags := flag.NewFlagSet("nats-server", flag.ExitOnError)
	opts, err := natsd.ConfigureOptions(flags, args, natsd.PrintServerAndExit, flags.Usage, natsd.PrintTLSHelpAndDie)
	if err != nil {
		return err
	}
	s, err := natsd.NewServer(opts)
	if err != nil {
		return err
	}
	s.ConfigureLogger()
	if err := natsd.Run(s); err != nil {
		return err
	}
	s.WaitForShutdown()
	return nil
}

// startPeer starts this program as a peer's server.
func startPeer(s *settings, name, log string, peer string, args ...string) (*server, error) {
	self, err := os.Executable()
	if err != nil {
		return nil, err
	}
	env := []string{fmt.Sprintf("GOMAXPROCS=%d", s.procs)}
	return startServer(name, log, env, self, append([]string{servePeer, peer}, args...)...)
}
