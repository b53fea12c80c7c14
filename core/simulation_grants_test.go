package core_test

import (
	"context"
	"errors"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"net/url"
	"slices"
	"strings"
	"time"

	"github.com/golang-jwt/jwt/v5"

	"github.com/event-piper/event-piper/core"
	"github.com/event-piper/event-piper/core/auth"
)

// addresses: a consumer's own may be a topic of others, one name begins another, and one has to be encoded.
var addresses = []string{"a", "b", "t1", "t12", "o, ü%"}

// simGrants are what a consumer may be granted; those that end in * are prefixes.
var simGrants = []string{"a", "b", "t1", "t12", "t1*", "o, ü%", "o*", "t3", "*"}

const (
	// simTopics is how many topics a reader may follow.
	simTopics = 3
	simSecret = "0123456789abcdef0123456789abcdef"
)

// granted is a consumer and its grants, as the world knows them and as the service has read them.
type granted struct {
	consumer string
	grants   []string
	identity auth.Identity
}

// grant makes a consumer whose grants a gateway's header or a token tells.
func (s *simulation) grant() granted {
	g := granted{consumer: addresses[s.r.IntN(2)]}
	for _, grant := range simGrants {
		if s.r.IntN(4) == 0 {
			g.grants = append(g.grants, grant)
		}
	}
	request := httptest.NewRequest(http.MethodGet, "/events", nil)
	by := auth.Gateway()
	if s.r.IntN(2) == 0 {
		request.Header.Set("X-Consumer-Id", g.consumer)
		request.Header.Set("X-Consumer-Topics", strings.Join(encoded(g.grants), ", "))
	} else {
		var err error
		by, err = auth.JWT(context.Background(), auth.JWTConfig{HMACSecret: simSecret, TopicsClaim: "topics"}, slog.New(slog.DiscardHandler))
		if err != nil {
			s.Fatal(err)
		}
		var claim any = g.grants
		if !slices.Contains(g.grants, "o, ü%") && s.r.IntN(2) == 0 {
			claim = strings.Join(g.grants, " ")
		}
		token, err := jwt.NewWithClaims(jwt.SigningMethodHS256, jwt.MapClaims{
			"sub": g.consumer, "topics": claim, "exp": time.Now().Add(time.Hour).Unix(),
		}).SignedString([]byte(simSecret))
		if err != nil {
			s.Fatal(err)
		}
		request.Header.Set("Authorization", "Bearer "+token)
	}
	var err error
	if g.identity, err = by.Authenticate(request); err != nil || g.identity.Consumer != g.consumer {
		s.Errorf("%s with grants %q is taken for %q (%v)", g.consumer, g.grants, g.identity.Consumer, err)
	}
	return g
}

// encoded are names as a header and a query carry them.
func encoded(names []string) []string {
	encoded := make([]string, len(names))
	for i, name := range names {
		name, prefix := strings.CutSuffix(name, "*")
		if encoded[i] = url.PathEscape(name); prefix {
			encoded[i] += "*"
		}
	}
	return encoded
}

// permits is what the grants mean.
func (g granted) permits(topic string) bool {
	return slices.ContainsFunc(g.grants, func(grant string) bool {
		prefix, is := strings.CutSuffix(grant, "*")
		return grant == topic || is && strings.HasPrefix(topic, prefix)
	})
}

// mayAsk asks for other topics at times, as a client can with each request.
func (r *simReader) mayAsk() {
	if r.s.r.IntN(3) == 0 {
		r.ask()
	}
}

// ask asks for topics. If it is refused, the reader goes on with what it followed before.
func (r *simReader) ask() {
	dice := r.s.r
	var lists, asked []string
	if dice.IntN(3) > 0 {
		for _, address := range addresses {
			if dice.IntN(3) == 0 {
				asked = append(asked, address)
			}
		}
		if lists = encoded(asked); dice.IntN(2) == 0 {
			lists = []string{strings.Join(lists, ",")}
		} else if len(lists) == 0 {
			lists = []string{""}
		}
	} else {
		for _, grant := range r.granted.grants {
			if !strings.HasSuffix(grant, "*") {
				asked = append(asked, grant)
			}
		}
	}
	follows, denied := []string{r.granted.consumer}, false
	for _, topic := range asked {
		if topic != r.granted.consumer {
			denied = denied || !r.granted.permits(topic)
			follows = append(follows, topic)
		}
	}
	many := len(follows) > 1+simTopics

	topics, err := core.ParseTopics(lists)
	if err == nil {
		topics, err = r.granted.identity.Follow(topics, simTopics)
	}
	switch {
	case err == nil && !denied && !many:
		r.s.say("%s follows %q", r.name, topics)
		r.addresses, r.topics = follows, topics
		r.asked++
	case denied && errors.Is(err, core.ErrNotGranted), many && errors.Is(err, core.ErrTooManyTopics):
		r.s.say("%s is refused %q", r.name, asked)
	default:
		r.s.Errorf("%s, granted %q, asks for %q and gets %v", r.name, r.granted.grants, asked, err)
	}
}

// readAgain reads, once the world has come to rest, all that is left in pages: exactly what a reader of its topics and of its
// view must get.
func (r *simReader) readAgain() {
	query := core.PageQuery{Addresses: append([]string{r.granted.consumer}, r.topics...), Types: r.types, Current: r.current, Limit: 7}
	var want, got []int64
	for _, id := range keys(r.s.truth) {
		f := r.s.truth[id]
		switch {
		case f.deleted && slices.Contains(r.addresses, f.address):
			query.After, want = max(query.After, id), nil
		case !f.deleted && r.wants(f) && (!r.current || !r.s.amended(id)):
			want = append(want, id)
		}
	}
	for {
		pages, err := r.s.store.Pages(context.Background(), []core.PageQuery{query}, core.Mark{})
		if err != nil || pages[0].Reset(query) != nil {
			r.s.Errorf("%s reads again after %d: %v, %v", r.name, query.After, pages, err)
			return
		}
		for _, e := range pages[0].Events {
			got = append(got, e.ID)
		}
		query.After = pages[0].Next
		if !pages[0].More {
			break
		}
	}
	if !slices.Equal(got, want) {
		r.s.Errorf("%s reads again %v, want %v", r.name, got, want)
	}
}
