package core

// stage is how far a session has come with history.
type stage uint8

const (
	// live: the session reads recent events, or has yet to find out that it cannot.
	live stage = iota
	// asked: a page is on its way, and none is at hand.
	asked
	// holding: a page is at hand.
	holding
	// extending: a page is at hand, and the next is on its way.
	extending
	// stocked: a page is at hand, and the next one too.
	stocked
	// parked: the reader waits for its client. Nothing is at hand, and nothing is wanted before the next Take.
	parked
	// recalled: parked, while a page that was asked for is on its way. It will be dropped.
	recalled
)

// history is what a session reads of the table, because its cursor is older than the recent events. It holds
// two pages at most: the one at hand, and the one after it. The hub's mutex guards it.
//
//	live      ── ask ─▶ asked     ── arrive ─▶ holding     the first page
//	holding   ── ask ─▶ extending ── arrive ─▶ stocked     the next page, read ahead
//	stocked   ── turn ─▶ holding                           a page was taken to its end
//	extending ── turn ─▶ asked
//	holding   ── turn ─▶ live
//	asked, extending, recalled ── dismiss ─▶ live, holding, parked    the answer is of no use
//	any       ── park ─▶ parked, or recalled if a page is on its way
//	parked, recalled ── resume ─▶ live, asked
//
// A page stays counted in the instance's budget until the Take after the one that took its last event: only
// then is it known that the reader has written it.
type history struct {
	buffer *buffer
	stage  stage
	page   *Page // at hand
	taken  int   // how many events of page have been taken
	next   *Page // follows page
	spent  *Page // taken to its end by the last Take
	// limit bounds the events of a page. It shrinks after a page that could not be read, and grows again with
	// each that could, up to most.
	limit, most int
	// failures counts the pages in a row that could not be read because of what is in them. After the first,
	// the session's pages are read by themselves, so that nobody else has to wait for them.
	failures int
	// behind reports that the last events came from history, or that the next ones will.
	behind bool
	// known reports that the database knows the cursor although it is beyond the hub's position.
	known bool
	// doubted reports that what led to the cursor may be lost: the session is told with the next page.
	doubted bool
}

// onItsWay reports that a page was asked for and has not been answered.
func (h *history) onItsWay() bool {
	return h.stage == asked || h.stage == extending || h.stage == recalled
}

// resting reports that no page is at hand and none on its way.
func (h *history) resting() bool { return h.stage == live || h.stage == parked }

// ask notes that a page was asked for.
func (h *history) ask() {
	switch h.stage {
	case live:
		h.stage = asked
	case holding:
		h.stage = extending
	}
}

// arrive takes in the page that was asked for.
func (h *history) arrive(page *Page) {
	h.known, h.failures = true, 0
	h.limit = min(2*h.limit, h.most)
	h.buffer.hold(page)
	switch h.stage {
	case asked:
		h.page, h.stage = page, holding
	case extending:
		h.next, h.stage = page, stocked
	}
}

// dismiss notes that what was asked for has been answered with nothing that can be used.
func (h *history) dismiss() {
	switch h.stage {
	case asked:
		h.stage = live
	case extending:
		h.stage = holding
	case recalled:
		h.stage = parked
	}
}

// turn puts the page away that was taken to its end.
func (h *history) turn() {
	h.written()
	h.spent, h.page, h.next, h.taken = h.page, h.next, nil, 0
	switch h.stage {
	case holding:
		h.stage = live
	case extending:
		h.stage = asked
	case stocked:
		h.stage = holding
	}
}

// written lets the page go whose last events have been written.
func (h *history) written() {
	h.buffer.release(h.spent)
	h.spent = nil
}

// drop lets go of what is at hand. It will be read again.
func (h *history) drop() {
	h.buffer.release(h.page)
	h.buffer.release(h.next)
	h.page, h.next, h.taken = nil, nil, 0
	switch h.stage {
	case holding, stocked:
		h.stage = live
	case extending:
		h.stage = asked
	}
}

// park drops what is at hand, and keeps anything from coming before resume.
func (h *history) park() {
	h.drop()
	switch h.stage {
	case live:
		h.stage = parked
	case asked:
		h.stage = recalled
	}
}

// resume takes up what park left.
func (h *history) resume() {
	switch h.stage {
	case parked:
		h.stage = live
	case recalled:
		h.stage = asked
	}
}

// unreadable notes that the page that was asked for could not be read because of what is in it. It reports
// whether a smaller page may do.
func (h *history) unreadable() (smaller bool) {
	h.failures++
	smaller = h.limit > 1
	h.limit = max(1, h.limit/2)
	return smaller
}
