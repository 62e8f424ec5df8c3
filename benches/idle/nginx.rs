//! nginx as a reverse proxy, as its documentation has it for WebSockets, with as many workers as Doorward has.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};

pub(crate) fn configuration(directory: &Path, listen: SocketAddr, upstream: SocketAddr, connections: usize) -> PathBuf {
    let workers = std::thread::available_parallelism().map_or(1, usize::from);
    // Of one worker, its connections to upstreams among them; it makes room for all of them when it starts.
    let most = connections * 2 + 1000;
    let temp: String = ["client_body", "proxy", "fastcgi", "uwsgi", "scgi"]
        .map(|kind| format!("{kind}_temp_path {}/{kind};\n", directory.display()))
        .concat();
    let text = format!(
        "daemon off;\nuser root;\nworker_processes {workers};\npid {dir}/pid;\n\
         events {{ worker_connections {most}; }}\n\
         http {{\n{temp}access_log off;\n\
         map $http_upgrade $connection_upgrade {{ default upgrade; '' ''; }}\n\
         server {{\nlisten {listen} reuseport backlog=1024;\nkeepalive_timeout 1h;\nkeepalive_requests 100000;\n\
         location / {{\nproxy_pass http://{upstream};\nproxy_http_version 1.1;\n\
         proxy_set_header Host $http_host;\nproxy_set_header Upgrade $http_upgrade;\n\
         proxy_set_header Connection $connection_upgrade;\nproxy_read_timeout 1h;\nproxy_send_timeout 1h;\n}}\n}}\n}}\n",
        dir = directory.display()
    );
    let path = directory.join("nginx.conf");
    std::fs::write(&path, text).unwrap();
    path
}
