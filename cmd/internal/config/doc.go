// Package config loads the configuration of `atoll server`.
//
// A file is YAML that follows the message atoll.config.v1.Server. Over it go environment variables,
// and over these flags; defaults fill what is left. All faults of a file are reported at once, each
// with the line it is on, whether the YAML, the shape, a rule of the message or a cross check refused
// it:
//
//	atoll.yaml:7:9 cluster.regions[0].nodes[0].api: needs a port, as in "10.0.0.1:7480" (address)
//	   7 |         api: localhost
//	   7 | .............^
package config
