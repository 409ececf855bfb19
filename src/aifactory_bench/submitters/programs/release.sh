# Lets go of a run: another controller may drive it at once.
# $1 run folder, $2 holder
cd "$1" 2>/dev/null || exit 0
[ -f .controller ] && read -r holder _ < .controller || exit 0
[ "$holder" != "$2" ] || rm -f .controller
