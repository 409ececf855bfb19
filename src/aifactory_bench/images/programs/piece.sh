# Takes a piece of a file in; doing it again changes nothing. $1 folder of the cache, $2 SHA-256 of the file, $3 number of the piece,
# $4 bytes of all pieces but the last, $5 SHA-256 of the piece. Standard input: the piece.
cd "$1/.work/push" || exit 1
trap 'rm -f ".$2.$$"' EXIT
cat > ".$2.$$" || exit 1
sum=$(sha256sum ".$2.$$")
[ "${sum%% *}" = "$5" ] || { echo "it did not arrive as it was sent" >&2; exit 1; }
dd if=".$2.$$" of="$2" bs="$4" seek="$3" conv=notrunc 2>".$2.$$.said" || { cat ".$2.$$.said" >&2; rm -f ".$2.$$.said"; exit 1; }
rm -f ".$2.$$.said"
