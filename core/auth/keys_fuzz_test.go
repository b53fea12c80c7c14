package auth

import "testing"

// FuzzKeys reads what somebody else's server calls a JWK Set: it never panics, and what is left are keys that can verify, each
// with an algorithm of ours.
func FuzzKeys(f *testing.F) {
	for _, s := range []string{
		`{"keys":[]}`, `{"keys":null}`, `{"keys":[{}]}`, `[]`, `{"keys":[{"kty":"oct","k":"AAAA"}]}`,
		`{"keys":[{"kty":"OKP","crv":"Ed25519","kid":"a","x":"11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo"}]}`,
		`{"keys":[{"kty":"EC","crv":"P-256","x":"f83OJ3D2xF1Bg8vub9tLe1gHMzV76e8Tus9uPHvRVEU","y":"x_FEzRu9m36HLN_tue659LNpXW6pCyStikYjKIWI5a0"}]}`,
		`{"keys":[{"kty":"RSA","n":"AQAB","e":"AQAB"}]}`, `{"keys":[{"kty":"EC","crv":"P-256","x":"AA","y":"AA"}]}`,
	} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, set []byte) {
		keys, err := parseKeys(set)
		if (err == nil) != (len(keys) > 0) {
			t.Errorf("%q: %d keys and %v, want keys or an error", set, len(keys), err)
		}
		for _, k := range keys {
			if k.public == nil || k.alg != "RS256" && k.alg != "ES256" && k.alg != "EdDSA" {
				t.Errorf("%q: a key for %q", set, k.alg)
			}
		}
	})
}
