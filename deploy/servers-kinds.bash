# shellcheck shell=bash disable=SC2034,SC2153
# The kinds of servers, sourced by `servers` beside it, which owns ports, processes and commands.
# Each start_X writes its configuration from PORTS, SECRET and the options, launches, awaits
# readiness and sets URL and VERSION (and EXTRA: more lines of the env). A second start finds PORTS, SECRET and
# data as the first one left them.

# The last match of the sed command $2 in the log $1.
in_log() { sed -nE "$2" "$1" | tail -n1; }

rabbitmq_ready() { [[ $(ask "${PORTS[0]}" 'AMQP\x00\x00\x09\x01' 1) == 01 ]]; }
epmd_ready() { [[ -n $(ask "${PORTS[2]}" '\x00\x01n' 4) ]]; }

start_rabbitmq() {
  local server epmd node=spinor-${PORTS[0]}@localhost line
  server=$(program /usr/lib/rabbitmq/bin/rabbitmq-server)
  epmd=$(program /usr/bin/epmd /usr/local/bin/epmd /usr/lib/erlang/bin/epmd)
  {
    echo "listeners.tcp.1 = 127.0.0.1:${PORTS[0]}"
    echo "default_user = spinor"
    echo "default_pass = $SECRET"
    echo "log.console = false"
    echo "log.file.level = info"
    echo "disk_free_limit.absolute = 50MB"
    [[ ",$PLUGINS," == *,rabbitmq_management,* ]] && printf 'management.tcp.ip = 127.0.0.1\nmanagement.tcp.port = %s\n' "${PORTS[3]}"
    if [[ -n $TLS ]]; then
      certificates "$DIR/tls"
      printf '%s\n' "listeners.ssl.1 = 127.0.0.1:${PORTS[5]}" "ssl_options.cacertfile = $DIR/tls/ca.pem" \
        "ssl_options.certfile = $DIR/tls/server.pem" "ssl_options.keyfile = $DIR/tls/server.key" "ssl_options.verify = verify_none"
    fi
    for line in "${SETTINGS[@]}"; do echo "$line"; done
  } >"$DIR/rabbitmq.conf"
  echo "[${PLUGINS}]." >"$DIR/enabled_plugins"
  echo "${ADVANCED:-[].}" >"$DIR/advanced.config"
  # The cookie of a cluster is shared; its members also share one port mapper, that of the first.
  local cookie=$SECRET
  if [[ -n $JOIN ]]; then cookie=$(cat "$JOIN/home/.erlang.cookie"); PORTS[2]=$(sed -n 's/^epmd_port=//p' "$JOIN/server.env"); fi
  rm -f "$DIR/home/.erlang.cookie"
  echo -n "$cookie" >"$DIR/home/.erlang.cookie"
  own "$DIR"/rabbitmq.conf "$DIR"/enabled_plugins "$DIR"/advanced.config "$DIR/home/.erlang.cookie"
  chmod 400 "$DIR/home/.erlang.cookie"
  if [[ -z $JOIN ]]; then
    # Started here and not by Erlang, which would leave a daemon behind.
    launch epmd.log "$epmd" -port "${PORTS[2]}" -address 127.0.0.1
    await 60 epmd_ready
  fi
  VARIABLES=("RABBITMQ_NODENAME=$node" "RABBITMQ_NODE_PORT=${PORTS[0]}" "RABBITMQ_DIST_PORT=${PORTS[1]}"
    "ERL_EPMD_PORT=${PORTS[2]}" "RABBITMQ_BASE=$DIR" "RABBITMQ_HOME=$DIR/home" "RABBITMQ_CONF_ENV_FILE=$DIR/no-env.conf"
    "RABBITMQ_CONFIG_FILE=$DIR/rabbitmq.conf" "RABBITMQ_CONFIG_FILES=$DIR/no-conf.d"
    "RABBITMQ_ADVANCED_CONFIG_FILE=$DIR/advanced.config" "RABBITMQ_ENABLED_PLUGINS_FILE=$DIR/enabled_plugins"
    "RABBITMQ_MNESIA_BASE=$DIR/data" "RABBITMQ_LOG_BASE=$DIR/log" "RABBITMQ_PID_FILE=$DIR/rabbitmq.pid"
    "RABBITMQ_GENERATED_CONFIG_DIR=$DIR/tmp" "RABBITMQ_FEATURE_FLAGS_FILE=$DIR/feature_flags"
    "RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS=-kernel inet_dist_use_interface {127,0,0,1} +sbwt none +sbwtdcpu none +sbwtdio none"
    "RABBITMQ_CTL_DIST_PORT_MIN=${PORTS[4]}" "RABBITMQ_CTL_DIST_PORT_MAX=${PORTS[4]}")
  write_ctl
  launch server.log "${VARIABLES[@]}" "$server"
  await 60 rabbitmq_ready
  if [[ -n $JOIN && ! -e $DIR/joined ]]; then
    local first
    first=$(sed -n 's/^node=//p' "$JOIN/server.env")
    local command
    for command in stop_app "join_cluster $first" start_app; do
      # shellcheck disable=SC2086
      "$DIR/ctl" $command >>"$DIR/log/join.log" 2>&1 || show_failure "rabbitmqctl $command failed"
    done
    touch "$DIR/joined"
    await 60 rabbitmq_ready
  fi
  URL="amqp://spinor:$SECRET@127.0.0.1:${PORTS[0]}/%2f"
  VERSION=$(in_log "$DIR/log/spinor-${PORTS[0]}@localhost.log" 's/.*Starting RabbitMQ ([^ ]+) on Erlang.*/\1/p')
  EXTRA=("node=$node" "epmd_port=${PORTS[2]}" "ctl=$DIR/ctl")
  [[ -z $TLS ]] || EXTRA+=("tls_url=amqps://spinor:$SECRET@127.0.0.1:${PORTS[5]}/%2f" "tls_port=${PORTS[5]}")
  [[ ",$PLUGINS," == *,rabbitmq_management,* ]] && EXTRA+=("management=http://spinor:$SECRET@127.0.0.1:${PORTS[3]}")
  return 0
}

# DIR/ctl: rabbitmqctl for this node, in the same environment and as the same user.
write_ctl() {
  declare -p VARIABLES | sed 's/^declare /declare -g /' >"$DIR/ctl.env"
  printf '#!/usr/bin/env bash\nexec %q ctl %q "$@"\n' "$SELF" "$DIR" >"$DIR/ctl"
  chmod 755 "$DIR/ctl"
}

sql_ready() { grep -qsE "ready for connections.*" "$DIR"/log/server.log && [[ -n $(ask "${PORTS[0]}" '' 1) ]]; }

# $1: the server's program.
start_sql() {
  local server=$1
  local -a arguments=(--no-defaults "--datadir=$DIR/data" "--port=${PORTS[0]}" --bind-address=127.0.0.1 --skip-name-resolve
    "--socket=$DIR/tmp/s" "--pid-file=$DIR/sql.pid" "--init-file=$DIR/init.sql" "--tmpdir=$DIR/tmp"
    --innodb-buffer-pool-size=64M --max-connections=200 --character-set-server=utf8mb4)
  cat >"$DIR/init.sql" <<SQL
CREATE USER IF NOT EXISTS 'spinor'@'%' IDENTIFIED BY '$SECRET';
GRANT ALL PRIVILEGES ON *.* TO 'spinor'@'%' WITH GRANT OPTION;
CREATE DATABASE IF NOT EXISTS spinor CHARACTER SET utf8mb4;
SQL
  own "$DIR/init.sql"
  if [[ $NAME == mysql* ]]; then
    arguments+=(--mysqlx=OFF --innodb-redo-log-capacity=64M --performance-schema=OFF)
    [[ -d $DIR/data/mysql ]] || prepare install.log "$server" --no-defaults --initialize-insecure "--datadir=$DIR/data" "--tmpdir=$DIR/tmp"
  else
    arguments+=(--innodb-log-file-size=64M --performance-schema=OFF)
    [[ -d $DIR/data/mysql ]] || prepare install.log "$(program /usr/bin/mariadb-install-db)" --no-defaults "--datadir=$DIR/data" \
      "--tmpdir=$DIR/tmp" --skip-test-db --auth-root-authentication-method=normal --innodb-log-file-size=64M --skip-name-resolve
  fi
  if [[ -n $TLS ]]; then
    certificates "$DIR/tls"
    arguments+=("--ssl-ca=$DIR/tls/ca.pem" "--ssl-cert=$DIR/tls/server.pem" "--ssl-key=$DIR/tls/server.key" --require-secure-transport=ON)
  fi
  local line; for line in "${SETTINGS[@]}"; do arguments+=("--$line"); done
  : >"$DIR/log/server.log"; own "$DIR/log/server.log"
  # All its processes have ended, but a killed one may be a zombie for long, where nobody asks for its end:
  # MySQL takes the pid in the lock of its socket for a living server then.
  rm -f "$DIR"/tmp/s "$DIR"/tmp/s.lock
  launch server.log "$server" "${arguments[@]}"
  await 60 sql_ready
  URL="mysql://spinor:$SECRET@127.0.0.1:${PORTS[0]}/spinor"
  VERSION=$(in_log "$DIR/log/server.log" "s/.*Version: '([^'-]+).*/\1/p")
  EXTRA=("socket=$DIR/tmp/s")
}

start_mariadb() { local server; server=$(program /usr/sbin/mariadbd) || exit 1; start_sql "$server"; }
start_mysql() { local server; server=$(program /usr/sbin/mysqld) || exit 1; start_sql "$server"; }

# The 8.0 line from Maven Central: it finds its own libraries and messages beside itself.
start_mysql8() {
  local home
  home=$(fetch mysql8) || exit 1
  ! ldd "$home/bin/mysqld" | grep -q 'not found' || fail "mysql8 needs two libraries: apt-get install libaio1 libnuma1"
  start_sql "$home/bin/mysqld"
}

redis_ready() { [[ $(ask "${PORTS[0]}" "AUTH $SECRET\r\nPING\r\n" 12) == 2b4f4b0d0a2b504f4e470d0a ]]; }

start_redis() {
  local line
  {
    printf '%s\n' "port ${PORTS[0]}" "bind 127.0.0.1" "requirepass $SECRET" "dir $DIR/data" "daemonize no" \
      "appendonly yes" 'save ""' "set-proc-title no"
    if [[ -n $TLS ]]; then
      certificates "$DIR/tls"
      printf '%s\n' "tls-port ${PORTS[1]}" "tls-ca-cert-file $DIR/tls/ca.pem" "tls-cert-file $DIR/tls/server.pem" \
        "tls-key-file $DIR/tls/server.key" "tls-auth-clients no"
    fi
    for line in "${SETTINGS[@]}"; do echo "${line/=/ }"; done
  } >"$DIR/redis.conf"
  own "$DIR/redis.conf"
  launch server.log "$(program /usr/bin/redis-server)" "$DIR/redis.conf"
  await 60 redis_ready
  VERSION=$(in_log "$DIR/log/server.log" 's/.*Redis version=([^,]+),.*/\1/p')
  URL="redis://:$SECRET@127.0.0.1:${PORTS[0]}/0"
  [[ -z $TLS ]] || EXTRA+=("tls_url=rediss://:$SECRET@127.0.0.1:${PORTS[1]}/0" "tls_port=${PORTS[1]}")
}

s3_ready() { [[ $(ask "${PORTS[0]}" 'GET / HTTP/1.0\r\n\r\n' 5) == 485454502f ]]; }

# S3Proxy over files: each directory in data is a bucket, each file in it an object. One bucket is there: spinor.
start_s3() {
  local home java line
  home=$(fetch s3) || exit 1
  java=$(java_home 11) || exit 1
  mkdir -p "$DIR/data/spinor"
  own "$DIR/data/spinor"
  chmod 700 "$DIR/data/spinor"
  {
    # Bodies whose hash is signed are read whole before they are judged.
    printf '%s\n' "s3proxy.endpoint=http://127.0.0.1:${PORTS[0]}" s3proxy.authorization=aws-v4 \
      s3proxy.identity=spinor "s3proxy.credential=$SECRET" s3proxy.v4-max-non-chunked-request-size=134217728 \
      jclouds.provider=filesystem jclouds.identity=- jclouds.credential=- "jclouds.filesystem.basedir=$DIR/data"
    for line in "${SETTINGS[@]}"; do echo "$line"; done
  } >"$DIR/s3.conf"
  own "$DIR/s3.conf"
  chmod 600 "$DIR/s3.conf"
  launch server.log "$java/bin/java" -Xmx256m -XX:+UseSerialGC -XX:TieredStopAtLevel=1 "-Djava.io.tmpdir=$DIR/tmp" \
    -jar "$home/server.jar" --properties "$DIR/s3.conf"
  await 60 s3_ready
  VERSION=${home##*-}
  URL="http://spinor:$SECRET@127.0.0.1:${PORTS[0]}"
  EXTRA=("buckets=$DIR/data")
}

# Plain HTTP by hand, so that nothing need be installed for a readiness check.
search_ready() {
  local login='' line='GET /_cluster/health?wait_for_status=yellow&timeout=500ms HTTP/1.0\r\n'
  [[ -z $PASSWORD ]] || login="Authorization: Basic $(printf 'elastic:%s' "$PASSWORD" | base64 -w0)\r\n"
  if [[ -n $TLS ]]; then
    [[ $(printf '%b' "$line$login\r\n" | timeout 2 openssl s_client -quiet -connect "127.0.0.1:${PORTS[0]}" 2>/dev/null) == *' 200 '* ]]
    return
  fi
  [[ $(ask "${PORTS[0]}" "$line$login\r\n" 12) == *20323030 ]]
}

# $1: elasticsearch or opensearch, $2: the least Java it needs.
start_search() {
  local product=$1 home java upper line
  [[ -z $TLS || ( $product == elasticsearch && -n $PASSWORD ) ]] || fail "--tls: only Elasticsearch, with --password, speaks TLS here"
  home=$(fetch "$NAME") || exit 1
  java=$(java_home "$2") || exit 1
  upper=${product/elasticsearch/ES}; upper=${upper/opensearch/OPENSEARCH}
  if [[ ! -d $DIR/config ]]; then
    cp -r "$home/config" "$DIR/config"
    # The garbage collector's log goes beside the programs, which belong to nobody here.
    sed -i -e '/-Xlog:gc/d' -e "s|-XX:HeapDumpPath=.*|-XX:HeapDumpPath=$DIR/tmp|" -e "s|-XX:ErrorFile=.*|-XX:ErrorFile=$DIR/log/hs_err.log|" "$DIR/config/jvm.options"
    chmod -R u+rwX,go+rX "$DIR/config"
    chown -R "$USER_NAME:" "$DIR/config" 2>/dev/null || true
  fi
  local -a settings=(discovery.type=single-node network.host=127.0.0.1 "http.port=${PORTS[0]}" "transport.port=${PORTS[1]}"
    "path.data=$DIR/data" "path.logs=$DIR/log" cluster.routing.allocation.disk.threshold_enabled=false "${SETTINGS[@]}")
  local -a variables=("${upper}_JAVA_HOME=$java" "${upper}_JAVA_OPTS=-Xms$HEAP -Xmx$HEAP" "${upper}_PATH_CONF=$DIR/config" "${upper}_TMPDIR=$DIR/tmp")
  if [[ $product == elasticsearch ]]; then
    if [[ -n $PASSWORD ]]; then
      settings+=(xpack.security.enabled=true)
      if [[ -n $TLS ]]; then
        certificates "$DIR/config/tls"
        settings+=(xpack.security.http.ssl.enabled=true xpack.security.http.ssl.certificate=tls/server.pem
          xpack.security.http.ssl.key=tls/server.key)
      else
        settings+=(xpack.security.http.ssl.enabled=false)
      fi
      # shellcheck disable=SC2016
      [[ -e $DIR/config/elasticsearch.keystore ]] || prepare keystore.log "${variables[@]}" \
        bash -c 'printf "%s" "$1" | "$2" add -x -f bootstrap.password' keystore "$PASSWORD" "$home/bin/elasticsearch-keystore"
    else
      settings+=(xpack.security.enabled=false)
    fi
  fi
  local -a arguments=(); for line in "${settings[@]}"; do arguments+=(-E "$line"); done
  launch server.log "${variables[@]}" "$home/bin/$product" "${arguments[@]}"
  await 180 search_ready
  VERSION=${home##*-}
  URL="http${TLS:+s}://${PASSWORD:+elastic:$PASSWORD@}127.0.0.1:${PORTS[0]}"
}

start_elasticsearch() { start_search elasticsearch 17; }
start_elasticsearch9() { start_search elasticsearch 21; }
start_opensearch() { start_search opensearch 17; }
start_opensearch3() { start_search opensearch 21; }
