# $1 run folder, $2 path in it
cd "$1" && rm -f "$2"
