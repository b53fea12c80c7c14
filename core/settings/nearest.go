package settings

// Nearest returns the word that somebody who typed another one most likely meant, or "" if none is near: at
// most a third of the letters are wrong, missing or too many.
func Nearest(typed string, words []string) (nearest string) {
	least := len(typed)/3 + 1
	for _, word := range words {
		if d := distance(typed, word); d < least {
			nearest, least = word, d
		}
	}
	return nearest
}

// distance is how many letters have to be changed, added, taken away, or swapped with the next (optimal string
// alignment).
func distance(a, b string) int {
	rows := make([][]int, len(a)+1)
	for i := range rows {
		rows[i] = make([]int, len(b)+1)
		rows[i][0] = i
	}
	for j := range rows[0] {
		rows[0][j] = j
	}
	for i := 1; i <= len(a); i++ {
		for j := 1; j <= len(b); j++ {
			change := rows[i-1][j-1]
			if a[i-1] != b[j-1] {
				change++
			}
			rows[i][j] = min(change, rows[i-1][j]+1, rows[i][j-1]+1)
			if i > 1 && j > 1 && a[i-1] == b[j-2] && a[i-2] == b[j-1] {
				rows[i][j] = min(rows[i][j], rows[i-2][j-2]+1)
			}
		}
	}
	return rows[len(a)][len(b)]
}
