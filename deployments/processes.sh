# Processes by pid file, started and stopped so that nothing is left over.

# alive NAME: whether the process of $DCD_HOME/NAME.pid runs, and is Prefect's.
alive() {
  local pid
  pid=$(cat "$DCD_HOME/$1.pid" 2>/dev/null) || return 1
  [ -n "$(running "$pid")" ] || return 1
  case "$(ps -o command= -p "$pid" 2>/dev/null)" in *prefect*) return 0 ;; esac
  return 1
}

# start NAME COMMAND…: unless it runs. Its output goes to $DCD_HOME/NAME.log.
start() {
  local name="$1"
  shift
  alive "$name" && return 0
  nohup "$@" >>"$DCD_HOME/$name.log" 2>&1 </dev/null &
  echo $! >"$DCD_HOME/$name.pid"
  echo "$name started, pid $!"
}

# family PID: the process and all that descend from it, parents first.
family() {
  local child
  echo "$1"
  for child in $(ps -A -o pid= -o ppid= | awk -v parent="$1" '$2 == parent { print $1 }'); do
    family "$child"
  done
}

# stop NAME: ask the process and all its children to end; after 15 seconds kill those that are left.
stop() {
  local name="$1" pids left
  alive "$name" || { rm -f "$DCD_HOME/$name.pid"; return 0; }
  pids=$(family "$(cat "$DCD_HOME/$name.pid")")
  kill -TERM ${pids%%$'\n'*} 2>/dev/null || true
  for _ in $(seq 30); do
    left=$(running $pids)
    [ -n "$left" ] || break
    sleep 0.5
  done
  [ -z "$left" ] || kill -KILL $left 2>/dev/null || true
  for _ in $(seq 20); do
    left=$(running $pids)
    [ -n "$left" ] || break
    sleep 0.25
  done
  [ -z "$left" ] || { echo "$name: still running: $left" >&2; return 1; }
  rm -f "$DCD_HOME/$name.pid"
  echo "$name stopped"
}

# running PID…: those of the processes that are there and no zombies.
running() {
  local pid
  for pid in "$@"; do
    case "$(ps -o stat= -p "$pid" 2>/dev/null)" in "" | Z*) ;; *) echo "$pid" ;; esac
  done
}
