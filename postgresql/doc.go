// Package postgresql keeps events in PostgreSQL 14 or later: the schema and its migrations, the reads behind
// core.Store, and a poller over a single connection for AWS Lambda.
//
// The table is the truth and NOTIFY is only a doorbell, without a payload: a notification that gets lost
// costs a second of latency and no event. What makes an id a position is in the migrations: a trigger with
// which every writer holds an advisory lock, and the watermark that those locks tell, where every read ends.
package postgresql
