//go:build unix

package blackbox_test

import (
	"math/rand/v2"
	"net/url"
	"slices"
	"strings"
	"time"

	"github.com/golang-jwt/jwt/v5"
)

// addresses: those of consumers may be topics of others, some begin others, and some have to be encoded.
var addresses = []string{"ann", "bob", "team", "team-1", "team-12", "odd*", "odd*er", "a, b", " 100% ", "Zoë/é"}

const (
	tokenSecret = "0123456789abcdef0123456789abcdef"
	// mostTopics is how many topics a session may follow.
	mostTopics = 4
)

// grant is a topic, or all that begin with a prefix.
type grant struct {
	name   string
	prefix bool
}

func (g grant) permits(topic string) bool {
	return g.name == topic || g.prefix && strings.HasPrefix(topic, g.name)
}

// interest is what a reader is granted and asks for, and what must come of it.
type interest struct {
	headers []string // names and values
	query   string
	// addresses are those whose events are for the reader, its own among them.
	addresses []string
	// refusals are the statuses of which it must get one, if there are any.
	refusals []int
}

// newInterest draws one. With a token the grants are in it, else in the gateway's header.
func newInterest(random *rand.Rand, consumer string, token bool) (i interest) {
	var grants []grant
	for _, address := range addresses {
		if random.IntN(3) == 0 && (!token || !strings.HasSuffix(address, "*")) { // to a token, that is a prefix
			grants = append(grants, grant{name: address})
		}
	}
	if random.IntN(3) == 0 {
		start := []rune(pick(random, addresses))
		grants = append(grants, grant{string(start[:random.IntN(len(start)+1)]), true})
	}
	if random.IntN(4) == 0 {
		grants = append(grants, grants...)
	}
	if token {
		i.headers = []string{"Authorization", bearer(consumer, claim(random, grants))}
	} else {
		i.headers = grantsHeader(random, grants)
	}

	permitted := func(topic string) bool {
		return slices.ContainsFunc(grants, func(g grant) bool { return g.permits(topic) })
	}
	var topics []string
	if random.IntN(3) == 0 {
		for _, g := range grants {
			if !g.prefix {
				topics = append(topics, g.name)
			}
		}
	} else {
		for _, address := range addresses {
			if random.IntN(20) == 0 || permitted(address) && random.IntN(2) == 0 {
				topics = append(topics, address)
			}
		}
		i.query = topicsParameters(random, topics)
	}
	i.addresses = []string{consumer}
	for _, topic := range topics {
		if topic != consumer && !permitted(topic) {
			i.refusals = []int{403}
		}
		if !slices.Contains(i.addresses, topic) {
			i.addresses = append(i.addresses, topic)
		}
	}
	if len(i.addresses) > 1+mostTopics {
		i.refusals = append(i.refusals, 422)
	}
	return i
}

// claim lists grants as an issuer may.
func claim(random *rand.Rand, grants []grant) any {
	names, spaces := []string{}, false
	for _, g := range grants {
		if g.prefix {
			g.name += "*"
		}
		names = append(names, g.name)
		spaces = spaces || strings.Contains(g.name, " ")
	}
	if !spaces && random.IntN(2) == 0 {
		return strings.Join(names, " ")
	}
	return names
}

// bearer makes a token.
func bearer(consumer string, topics any) string {
	token, err := jwt.NewWithClaims(jwt.SigningMethodHS256, jwt.MapClaims{
		"sub": consumer, "topics": topics, "exp": time.Now().Add(time.Hour).Unix(),
	}).SignedString([]byte(tokenSecret))
	if err != nil {
		panic(err) // it always has a key
	}
	return "Bearer " + token
}

// grantsHeader lists grants as a gateway may, and sometimes says the same twice.
func grantsHeader(random *rand.Rand, grants []grant) (headers []string) {
	var list []string
	for _, g := range grants {
		encoded := encode(random, g.name, !g.prefix)
		if g.prefix {
			encoded += "*"
		}
		list = append(list, encoded)
	}
	value := strings.Join(list, pick(random, []string{",", ", ", " ,, "}))
	for range random.IntN(3) {
		headers = append(headers, "X-Consumer-Topics", value)
	}
	if len(headers) == 0 && len(grants) > 0 {
		headers = []string{"X-Consumer-Topics", value}
	}
	return headers
}

// topicsParameters asks for topics, in one parameter or in several.
func topicsParameters(random *rand.Rand, topics []string) (query string) {
	var list []string
	for _, topic := range topics {
		list = append(list, encode(random, topic, false))
	}
	if len(list) == 0 || random.IntN(2) == 0 {
		list = []string{strings.Join(list, ",")}
	}
	for _, value := range list {
		query += "&topics=" + url.QueryEscape(value)
	}
	return query
}

// encode writes a name as it is in a list, or, where it can be, left alone. Of a grant, an asterisk at the end has to be.
func encode(random *rand.Rand, name string, asterisk bool) string {
	if strings.ContainsAny(name, ",%") || strings.TrimSpace(name) != name || asterisk && strings.HasSuffix(name, "*") || random.IntN(2) == 0 {
		return url.PathEscape(name)
	}
	return name
}

func pick[T any](random *rand.Rand, from []T) T { return from[random.IntN(len(from))] }
