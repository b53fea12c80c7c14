package coretest

import "github.com/event-piper/event-piper/core"

func (s *suite) amendments() {
	ids := s.insert("toto", `1`, `2`, `3`)
	others := s.insert("titi", `1`)
	amend := func(consumer string, amends int64) (id int64) {
		tx := s.begin()
		id, err := tx.Amend(s.ctx, consumer, "corrected", `0`, amends)
		s.ok(err)
		s.ok(tx.Commit(s.ctx))
		return id
	}
	first := amend("toto", ids[0])
	second := amend("toto", first)
	s.ok(s.Redact(s.ctx, ids[2]))
	redaction := s.page("toto", second, 10).Events[0]

	all := s.page("toto", 0, 10).Events
	s.wantIDs("all events", all, ids[0], ids[1], ids[2], first, second, redaction.ID)
	if all[3].Amends != ids[0] || all[4].Amends != first || all[1].Amends != 0 {
		s.Errorf("events amend %d, %d, %d, want %d, %d, 0", all[3].Amends, all[4].Amends, all[1].Amends, ids[0], first)
	}
	if redaction.Type != core.RedactedType || redaction.Amends != ids[2] || string(all[2].Payload) != "null" {
		s.Errorf("the redaction is %+v, and the payload %s, want one that amends %d, and null", redaction, all[2].Payload, ids[2])
	}
	for _, limit := range []int{1, 2, 10} {
		got, _, _ := s.walkAll(core.PageQuery{Addresses: []string{"toto"}, Current: true, Limit: limit})
		s.wantIDs("the current ones", got, ids[1], second, redaction.ID)
	}
	got, _, _ := s.walkAll(core.PageQuery{Addresses: []string{"toto", "titi"}, Current: true, Limit: 10})
	s.wantIDs("the current ones of two addresses", got, ids[1], others[0], second, redaction.ID)

	tx := s.begin() // one that is not settled amends nothing yet
	_, err := tx.Amend(s.ctx, "toto", "corrected", `0`, ids[1])
	s.ok(err)
	got, _, _ = s.walkAll(core.PageQuery{Addresses: []string{"toto"}, Current: true, Limit: 10})
	s.wantIDs("the current ones beside a writer", got, ids[1], second, redaction.ID)
	s.ok(tx.Rollback(s.ctx))

	f := s.follow()
	if r := s.read(f, second, "toto"); len(r.Events) != 1 || r.Events[0].Amends != ids[2] {
		s.Errorf("the live end has %+v, want the redaction", r.Events)
	}
}
