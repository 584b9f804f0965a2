// CoreDNS with the plugins that the cluster's Corefile names (tests/cluster_harness/control_plane.py). Those of its own list bring the
// clients of three clouds and of a tracing service: six hundred packages more to compile, which nothing else here has.
package main

import (
	"github.com/coredns/coredns/core/dnsserver"
	"github.com/coredns/coredns/coremain"
	_ "github.com/coredns/coredns/plugin/bind"
	_ "github.com/coredns/coredns/plugin/errors"
	_ "github.com/coredns/coredns/plugin/kubernetes"
	_ "github.com/coredns/coredns/plugin/loadbalance"
	_ "github.com/coredns/coredns/plugin/ready"
	_ "github.com/coredns/coredns/plugin/template"
)

func main() {
	// The order is CoreDNS's own.
	dnsserver.Directives = []string{"bind", "ready", "errors", "loadbalance", "template", "kubernetes"}
	coremain.Run()
}
