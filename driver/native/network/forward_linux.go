package network

import (
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"

	"github.com/google/nftables"
	"github.com/google/nftables/expr"
	"github.com/google/nftables/userdata"
	"golang.org/x/sys/unix"
)

// What a table accepts, another one can still drop, and Docker's does: it sets
// the policy of iptables' chain FORWARD to drop. It leaves one chain to
// others, which it looks at first and never changes. So where there is this
// chain, and only there, two rules in it let the bridge's packets pass Docker's
// table. They are no more than that: what sandboxes can reach is decided by our
// own table, whose drops count too. They come first in the chain, so an
// operator's rules in it do not apply to sandboxes.
//
// Source: docs.docker.com/engine/network/packet-filtering-firewalls. This works
// if iptables writes to nftables, as it does by default since Debian 10 and
// Ubuntu 20.10. The older iptables-legacy has its tables elsewhere, where
// nothing but iptables itself can change them.
const (
	dockerTable = "filter"
	dockerChain = "DOCKER-USER"
)

// legacyTables lists the tables of iptables-legacy.
const legacyTables = "/proc/net/ip_tables_names"

// passComment marks our rules in chains of others.
func (p policy) passComment() string { return "tine sandboxes on " + p.bridge }

// passes are the conditions of our rules. They are in the form that
// iptables writes, name without padding and a counter, as iptables would
// refuse to show or change a table with others.
func (p policy) passes() [][]expr.Any {
	name := []byte(p.bridge + "\x00")
	var rules [][]expr.Any
	for _, key := range []expr.MetaKey{expr.MetaKeyIIFNAME, expr.MetaKeyOIFNAME} {
		rules = append(rules, []expr.Any{
			&expr.Meta{Key: key, Register: register}, compare(expr.CmpOpEq, name),
			&expr.Counter{}, &expr.Verdict{Kind: expr.VerdictAccept},
		})
	}
	return rules
}

// passDocker makes the rules that are missing in Docker's chain, if there is one,
// and returns what else drops forwarded packets by policy.
func (p policy) passDocker() (added bool, obstacles []string, err error) {
	conn, err := openRules()
	if err != nil {
		return false, nil, fmt.Errorf("connect to nftables: %w", err)
	}
	chains, err := listChains(conn)
	if err != nil {
		return false, nil, err
	}
	docker := findDocker(chains)
	for _, chain := range chains {
		isOurs := chain.Table.Family == nftables.TableFamilyINet && strings.HasPrefix(chain.Table.Name, tablePrefix)
		isPassed := docker != nil && chain.Table.Name == docker.Table.Name && chain.Table.Family == docker.Table.Family
		if chain.Hooknum != nil && *chain.Hooknum == *nftables.ChainHookForward && chain.Policy != nil &&
			*chain.Policy == nftables.ChainPolicyDrop && !isOurs && !isPassed {
			obstacles = append(obstacles, fmt.Sprintf("chain %s of table %s in nftables", chain.Name, chain.Table.Name))
		}
	}
	if text, err := os.ReadFile(legacyTables); err == nil && slices.Contains(strings.Fields(string(text)), dockerTable) {
		obstacles = append(obstacles, "table filter of iptables-legacy, which this server cannot read")
	}
	if docker == nil {
		return false, obstacles, nil
	}
	present, err := p.findPasses(conn, docker)
	if err != nil {
		return false, obstacles, err
	}
	if len(present) == len(p.passes()) {
		return false, obstacles, nil
	}
	for _, old := range present {
		if err := conn.DelRule(old); err != nil {
			return false, obstacles, fmt.Errorf("replace rules in Docker's chain %s: %w", dockerChain, err)
		}
	}
	for _, exprs := range p.passes() {
		conn.InsertRule(&nftables.Rule{
			Table: docker.Table, Chain: docker, Exprs: exprs,
			UserData: userdata.AppendString(nil, userdata.TypeComment, p.passComment()),
		})
	}
	if err := conn.Flush(); err != nil {
		return false, obstacles, fmt.Errorf("let sandboxes pass Docker's chain %s: %w", dockerChain, err)
	}
	return true, obstacles, nil
}

// unpassDocker removes the rules from Docker's chain.
func (p policy) unpassDocker() error {
	conn, err := openRules()
	if err != nil {
		return fmt.Errorf("connect to nftables: %w", err)
	}
	chains, err := listChains(conn)
	if err != nil {
		return err
	}
	docker := findDocker(chains)
	if docker == nil {
		return nil
	}
	present, err := p.findPasses(conn, docker)
	if err != nil {
		return err
	}
	for _, old := range present {
		if err := conn.DelRule(old); err != nil {
			return fmt.Errorf("remove rules from Docker's chain %s: %w", dockerChain, err)
		}
	}
	if err := conn.Flush(); err != nil && !errors.Is(err, unix.ENOENT) {
		return fmt.Errorf("remove rules from Docker's chain %s: %w", dockerChain, err)
	}
	return nil
}

// listChains returns the chains that IPv4 packets can pass.
func listChains(conn *nftables.Conn) ([]*nftables.Chain, error) {
	var all []*nftables.Chain
	for _, family := range []nftables.TableFamily{nftables.TableFamilyIPv4, nftables.TableFamilyINet} {
		chains, err := conn.ListChainsOfTableFamily(family)
		if err != nil {
			return nil, fmt.Errorf("list chains of nftables: %w", err)
		}
		all = append(all, chains...)
	}
	return all, nil
}

func findDocker(chains []*nftables.Chain) *nftables.Chain {
	for _, chain := range chains {
		if chain.Name == dockerChain && chain.Table.Name == dockerTable && chain.Table.Family == nftables.TableFamilyIPv4 {
			return chain
		}
	}
	return nil
}

// findPasses returns our rules in a chain.
func (p policy) findPasses(conn *nftables.Conn, chain *nftables.Chain) ([]*nftables.Rule, error) {
	rules, err := conn.GetRules(chain.Table, chain)
	if err != nil {
		return nil, fmt.Errorf("list rules of Docker's chain %s: %w", dockerChain, err)
	}
	var ours []*nftables.Rule
	for _, rule := range rules {
		if comment, ok := userdata.GetString(rule.UserData, userdata.TypeComment); ok && comment == p.passComment() {
			ours = append(ours, rule)
		}
	}
	return ours, nil
}
