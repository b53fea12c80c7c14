package core

import (
	"errors"
	"fmt"
	"net/url"
	"slices"
	"strings"
)

// A topic is an address that several consumers may read. A consumer reads its own address without being
// granted it.

// DefaultTopics is how many topics a session may follow unless a setting says otherwise.
const DefaultTopics = 64

// MaxGrants bounds the grants of one consumer, plain names and prefixes together.
const MaxGrants = 1024

var (
	// ErrNotGranted reports a topic that was asked for and is not granted.
	ErrNotGranted = errors.New("a topic that was asked for is not granted")
	// ErrTooManyTopics reports more topics than one session may follow.
	ErrTooManyTopics = errors.New("more topics than one session may follow: name fewer by topics")
)

// Grants are the topics that a consumer may read: by name, or all that begin with a prefix. The zero value
// grants none.
type Grants struct {
	names    []string
	prefixes []string
}

// ParseGrants reads lists of grants as a gateway writes them: separated by commas, spaces around a grant not
// counting, with percent-encoding where a name needs it (see decodeTopic). A grant that ends in * is a prefix,
// and one that ends in %2A is the name of a topic that ends in an asterisk.
func ParseGrants(lists []string) (Grants, error) {
	var g Grants
	err := eachTopic(lists, func(encoded string) error {
		encoded, prefix := strings.CutSuffix(encoded, "*")
		topic, err := decodeTopic(encoded)
		if err != nil {
			return err
		}
		return g.add(topic, prefix)
	})
	return g, err
}

// NewGrants makes grants of names as they are, such as those of a token: no encoding, and one that ends in * is
// a prefix.
func NewGrants(names []string) (Grants, error) {
	var g Grants
	for _, name := range names {
		topic, prefix := strings.CutSuffix(name, "*")
		if err := g.add(topic, prefix); err != nil {
			return Grants{}, err
		}
	}
	return g, nil
}

func (g *Grants) add(topic string, prefix bool) error {
	if topic != "" || !prefix { // a lone * grants every topic
		if err := CheckName(topic); err != nil {
			return fmt.Errorf("a topic %w", err)
		}
	}
	list := &g.names
	if prefix {
		list = &g.prefixes
	}
	if !slices.Contains(*list, topic) {
		*list = append(*list, topic)
	}
	if len(g.names)+len(g.prefixes) > MaxGrants {
		return fmt.Errorf("there are more than %d grants", MaxGrants)
	}
	return nil
}

// Permit reports whether a topic is granted.
func (g Grants) Permit(topic string) bool {
	return slices.Contains(g.names, topic) ||
		slices.ContainsFunc(g.prefixes, func(prefix string) bool { return strings.HasPrefix(topic, prefix) })
}

// Follow returns the topics that a session of a consumer follows: those asked for, each of which must be
// granted, or, if asked is nil, every grant that is a plain name. The consumer's own address is never among
// them, as every session follows it. More than most is ErrTooManyTopics, one that is not granted
// ErrNotGranted.
func (g Grants) Follow(consumer string, asked []string, most int) ([]string, error) {
	topics := g.names
	if asked != nil {
		topics = asked
	}
	var follows []string
	for _, topic := range topics {
		switch {
		case topic == consumer || slices.Contains(follows, topic):
			continue
		case !g.Permit(topic):
			return nil, ErrNotGranted
		case len(follows) == most:
			return nil, ErrTooManyTopics
		}
		follows = append(follows, topic)
	}
	return follows, nil
}

// ParseTopics reads the topics that a client asks for, in the form of [ParseGrants], repeated and
// comma-separated. It returns nil if there are no lists, and an empty slice if they name none. A topic that
// ends in * is one by that name: to ask for all that begin so is not possible.
func ParseTopics(lists []string) ([]string, error) {
	if lists == nil {
		return nil, nil
	}
	topics := []string{}
	err := eachTopic(lists, func(encoded string) error {
		topic, err := decodeTopic(encoded)
		if err != nil {
			return err
		}
		if err := CheckName(topic); err != nil {
			return fmt.Errorf("a topic %w", err)
		}
		if len(topics) == MaxGrants {
			return fmt.Errorf("more than %d topics", MaxGrants)
		}
		topics = append(topics, topic)
		return nil
	})
	return topics, err
}

// eachTopic calls do for each part of comma-separated lists. Empty parts do not count (RFC 9110, section
// 5.6.1.2).
func eachTopic(lists []string, do func(encoded string) error) error {
	for _, list := range lists {
		for part := range strings.SplitSeq(list, ",") {
			if part = strings.Trim(part, " \t"); part == "" {
				continue
			}
			if err := do(part); err != nil {
				return err
			}
		}
	}
	return nil
}

// decodeTopic reads a name in which a comma, a percent sign, a space at either end, or what is not ASCII is
// percent-encoded (RFC 3986, section 2.1).
func decodeTopic(encoded string) (string, error) {
	topic, err := url.PathUnescape(encoded)
	if err != nil {
		return "", errors.New("a topic has a percent sign that encodes nothing")
	}
	return topic, nil
}
