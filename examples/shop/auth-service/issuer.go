package main

import (
	"crypto/hmac"
	"crypto/pbkdf2"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"errors"
	"expvar"
	"fmt"
	"strconv"
	"strings"
	"time"
)

// rounds of HMAC-SHA256 per password: a few milliseconds of CPU, the service's main cost.
const rounds = 20_000

const lifetime = time.Hour

// The one account of this example; a real service keeps salts and hashes in a store.
const demoUser, demoPassword = "ada", "lovelace"

var errDenied = errors.New("wrong user or password")

// issuer signs tokens with a key that lives as long as the process.
type issuer struct {
	key    []byte
	hashes map[string][]byte // stretched password by user
	issued *expvar.Int
}

func newIssuer() (*issuer, error) {
	key := make([]byte, sha256.Size)
	if _, err := rand.Read(key); err != nil {
		return nil, fmt.Errorf("make a key: %w", err)
	}
	hash, err := stretch(demoUser, demoPassword)
	if err != nil {
		return nil, err
	}
	hashes := map[string][]byte{demoUser: hash}
	return &issuer{key: key, hashes: hashes, issued: expvar.NewInt("tokens_issued")}, nil
}

// issue checks the password and returns "claims.signature", where the claims are expiry and user.
func (i *issuer) issue(user, password string) (string, error) {
	hash, err := stretch(user, password) // before the look-up: unknown users must take as long
	if err != nil {
		return "", err
	}
	if !hmac.Equal(hash, i.hashes[user]) {
		return "", errDenied
	}
	claims := fmt.Sprintf("%d|%s", time.Now().Add(lifetime).Unix(), user)
	i.issued.Add(1)
	return encode([]byte(claims)) + "." + encode(i.sign([]byte(claims))), nil
}

// valid tells whether the token carries this issuer's signature and has not expired.
func (i *issuer) valid(token string) bool {
	encodedClaims, encodedMAC, _ := strings.Cut(token, ".")
	claims, err1 := base64.RawURLEncoding.DecodeString(encodedClaims)
	mac, err2 := base64.RawURLEncoding.DecodeString(encodedMAC)
	if err1 != nil || err2 != nil || !hmac.Equal(mac, i.sign(claims)) {
		return false
	}
	expiry, _, _ := strings.Cut(string(claims), "|")
	seconds, err := strconv.ParseInt(expiry, 10, 64)
	return err == nil && time.Now().Unix() < seconds
}

func stretch(user, password string) ([]byte, error) {
	hash, err := pbkdf2.Key(sha256.New, password, []byte(user), rounds, sha256.Size)
	if err != nil {
		return nil, fmt.Errorf("stretch the password: %w", err)
	}
	return hash, nil
}

func (i *issuer) sign(message []byte) []byte {
	mac := hmac.New(sha256.New, i.key)
	mac.Write(message)
	return mac.Sum(nil)
}

func encode(b []byte) string { return base64.RawURLEncoding.EncodeToString(b) }
