// Command orders is the backend of the order page. It inserts an order and the event that tells of it in one
// transaction, so that there is never one without the other, and says to nginx who is asking. See README.md.
package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log"
	"net/http"
	"os"
	"path/filepath"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
)

const schema = `create table if not exists example_orders (
	id bigint generated always as identity primary key, customer text not null, item text not null, paid boolean not null default false)`

type order struct {
	ID   int64  `json:"id"`
	Item string `json:"item"`
	Paid bool   `json:"paid"`
}

type shop struct{ db *pgxpool.Pool }

func main() {
	if err := run(os.Getenv("DATABASE_URL"), os.Getenv("ADDRESS"), os.Getenv("REPOSITORY")); err != nil {
		log.Fatal("orders: ", err)
	}
}

func run(dsn, address, repository string) error {
	db, err := pgxpool.New(context.Background(), dsn)
	if err != nil {
		return err
	}
	defer db.Close()
	if _, err := db.Exec(context.Background(), schema); err != nil {
		return err
	}
	s := &shop{db}
	mux := http.NewServeMux()
	mux.HandleFunc("POST /login", login)
	mux.HandleFunc("GET /auth", auth)
	mux.HandleFunc("GET /orders", signedIn(s.list))
	mux.HandleFunc("POST /orders", signedIn(s.place))
	mux.HandleFunc("POST /orders/{id}/payment", signedIn(s.pay))
	for path, file := range map[string]string{"/{$}": "examples/orders/page.html", "/client.js": "clients/js/index.js"} {
		name := filepath.Join(repository, file)
		mux.HandleFunc("GET "+path, func(w http.ResponseWriter, r *http.Request) {
			http.ServeFile(w, r, name) //nolint:gosec // no part of the name is a client's
		})
	}
	server := &http.Server{Addr: address, Handler: mux, ReadHeaderTimeout: 10 * time.Second}
	return server.ListenAndServe()
}

// login believes everybody. A real one asks for a password, signs its cookie, and is served over HTTPS alone.
func login(w http.ResponseWriter, r *http.Request) {
	http.SetCookie(w, &http.Cookie{ //nolint:gosec // Secure would keep it from http://localhost in some browsers
		Name: "customer", Value: r.FormValue("customer"), Path: "/", HttpOnly: true, SameSite: http.SameSiteStrictMode,
	})
}

// auth answers nginx's auth_request.
func auth(w http.ResponseWriter, r *http.Request) {
	signedIn(func(w http.ResponseWriter, _ *http.Request, customer string) error {
		w.Header().Set("X-Consumer-Id", customer)
		return nil
	})(w, r)
}

func signedIn(handle func(http.ResponseWriter, *http.Request, string) error) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		cookie, err := r.Cookie("customer")
		if err != nil || cookie.Value == "" {
			http.Error(w, "not signed in", http.StatusUnauthorized)
			return
		}
		switch err := handle(w, r, cookie.Value); {
		case errors.Is(err, pgx.ErrNoRows):
			http.NotFound(w, r)
		case err != nil:
			log.Print("orders: ", err)
			http.Error(w, "try again", http.StatusInternalServerError)
		}
	}
}

func (s *shop) list(w http.ResponseWriter, r *http.Request, customer string) error {
	rows, err := s.db.Query(r.Context(), `select id, item, paid from example_orders where customer = $1 order by id`, customer)
	if err != nil {
		return fmt.Errorf("list: %w", err)
	}
	orders, err := pgx.CollectRows(rows, pgx.RowToStructByPos[order])
	if err != nil {
		return fmt.Errorf("list: %w", err)
	}
	w.Header().Set("Content-Type", "application/json")
	return json.NewEncoder(w).Encode(orders)
}

func (s *shop) place(w http.ResponseWriter, r *http.Request, customer string) error {
	return s.change(w, r, customer, "order.placed",
		`insert into example_orders (customer, item) values ($1, $2) returning id, item, paid`, customer, r.FormValue("item"))
}

func (s *shop) pay(w http.ResponseWriter, r *http.Request, customer string) error {
	return s.change(w, r, customer, "order.paid",
		`update example_orders set paid = true where customer = $1 and id = $2::text::bigint and not paid returning id, item, paid`, customer, r.PathValue("id"))
}

// change changes an order and inserts the event that says so.
func (s *shop) change(w http.ResponseWriter, r *http.Request, customer, event, statement string, arguments ...any) error {
	err := pgx.BeginFunc(r.Context(), s.db, func(tx pgx.Tx) error {
		var o order
		if err := tx.QueryRow(r.Context(), statement, arguments...).Scan(&o.ID, &o.Item, &o.Paid); err != nil {
			return fmt.Errorf("%s: %w", event, err)
		}
		_, err := tx.Exec(r.Context(), `insert into events (type, timestamp, subscriber, payload) values ($1, now(), $2, $3)`, event, customer, o)
		return err
	})
	if err == nil {
		w.WriteHeader(http.StatusNoContent)
	}
	return err
}
