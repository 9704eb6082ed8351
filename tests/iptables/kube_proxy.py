"""Rules as kube-proxy 1.30 gives them to `iptables-restore`, in its own order of words; IPv4.

One Service of a policy each: `ns/web:http` (Cluster, with affinity), `ns/local:http` (Local, source
ranges, health check node port), `ns/none:http` (no endpoints).
"""

FIRST = """\
*filter
:KUBE-NODEPORTS - [0:0]
:KUBE-SERVICES - [0:0]
:KUBE-EXTERNAL-SERVICES - [0:0]
:KUBE-FIREWALL - [0:0]
:KUBE-FORWARD - [0:0]
:KUBE-PROXY-FIREWALL - [0:0]
-A KUBE-NODEPORTS -m comment --comment "ns/local:http health check node port" -m tcp -p tcp --dport 32100 -j ACCEPT
-A KUBE-SERVICES -m comment --comment "ns/none:http has no endpoints" -m tcp -p tcp -d 172.30.0.43 --dport 80 -j REJECT
-A KUBE-EXTERNAL-SERVICES -m comment --comment "ns/none:http has no endpoints" -m addrtype --dst-type LOCAL \
-m tcp -p tcp --dport 30003 -j REJECT
-A KUBE-FIREWALL -m comment --comment "block incoming localnet connections" -d 127.0.0.0/8 ! -s 127.0.0.0/8 \
-m conntrack ! --ctstate RELATED,ESTABLISHED,DNAT -j DROP
-A KUBE-FORWARD -m conntrack --ctstate INVALID -m nfacct --nfacct-name ct_state_invalid_dropped_pkts -j DROP
-A KUBE-FORWARD -m comment --comment "kubernetes forwarding rules" -m mark --mark 0x4000/0x4000 -j ACCEPT
-A KUBE-FORWARD -m comment --comment "kubernetes forwarding conntrack rule" -m conntrack \
--ctstate RELATED,ESTABLISHED -j ACCEPT
-A KUBE-PROXY-FIREWALL -m comment --comment "ns/local:http traffic not accepted by KUBE-FW-LOCAL" \
-m tcp -p tcp -d 1.2.3.4 --dport 80 -j DROP
-I INPUT -m conntrack --ctstate NEW -m comment --comment "kubernetes externally-visible service portals" \
-j KUBE-EXTERNAL-SERVICES
-I INPUT -m comment --comment "kubernetes health check service ports" -j KUBE-NODEPORTS
-I FORWARD -m conntrack --ctstate NEW -m comment --comment "kubernetes service portals" -j KUBE-SERVICES
-I OUTPUT -m conntrack --ctstate NEW -m comment --comment "kubernetes service portals" -j KUBE-SERVICES
-I FORWARD -m comment --comment "kubernetes forwarding rules" -j KUBE-FORWARD
-I INPUT -m conntrack --ctstate NEW -m comment --comment "kubernetes load balancer firewall" -j KUBE-PROXY-FIREWALL
-I FORWARD -m conntrack --ctstate NEW -m comment --comment "kubernetes load balancer firewall" -j KUBE-PROXY-FIREWALL
-I INPUT -j KUBE-FIREWALL
COMMIT
*nat
:KUBE-NODEPORTS - [0:0]
:KUBE-SERVICES - [0:0]
:KUBE-EXT-LOCAL - [0:0]
:KUBE-EXT-WEB - [0:0]
:KUBE-FW-LOCAL - [0:0]
:KUBE-MARK-MASQ - [0:0]
:KUBE-POSTROUTING - [0:0]
:KUBE-SEP-LOCAL1 - [0:0]
:KUBE-SEP-LOCAL2 - [0:0]
:KUBE-SEP-WEB1 - [0:0]
:KUBE-SEP-WEB2 - [0:0]
:KUBE-SEP-WEB3 - [0:0]
:KUBE-SVC-LOCAL - [0:0]
:KUBE-SVC-WEB - [0:0]
:KUBE-SVL-LOCAL - [0:0]
-A KUBE-NODEPORTS -m comment --comment ns/web:http -m tcp -p tcp --dport 30001 -j KUBE-EXT-WEB
-A KUBE-SERVICES -m comment --comment "ns/web:http cluster IP" -m tcp -p tcp -d 172.30.0.41 --dport 80 -j KUBE-SVC-WEB
-A KUBE-SERVICES -m comment --comment "ns/local:http cluster IP" -m tcp -p tcp -d 172.30.0.42 --dport 80 \
-j KUBE-SVC-LOCAL
-A KUBE-SERVICES -m comment --comment "ns/local:http loadbalancer IP" -m tcp -p tcp -d 1.2.3.4 --dport 80 \
-j KUBE-FW-LOCAL
-A KUBE-SERVICES -m comment --comment "kubernetes service nodeports; NOTE: this must be the last rule in this chain" \
-m addrtype --dst-type LOCAL -j KUBE-NODEPORTS
-A KUBE-EXT-LOCAL -m comment --comment "pod traffic for ns/local:http external destinations" -s 10.0.0.0/8 \
-j KUBE-SVC-LOCAL
-A KUBE-EXT-LOCAL -m comment --comment "masquerade LOCAL traffic for ns/local:http external destinations" \
-m addrtype --src-type LOCAL -j KUBE-MARK-MASQ
-A KUBE-EXT-LOCAL -m comment --comment "route LOCAL traffic for ns/local:http external destinations" \
-m addrtype --src-type LOCAL -j KUBE-SVC-LOCAL
-A KUBE-EXT-LOCAL -j KUBE-SVL-LOCAL
-A KUBE-EXT-WEB -m comment --comment "masquerade traffic for ns/web:http external destinations" -j KUBE-MARK-MASQ
-A KUBE-EXT-WEB -j KUBE-SVC-WEB
-A KUBE-FW-LOCAL -m comment --comment "ns/local:http loadbalancer IP" -s 203.0.113.0/25 -j KUBE-EXT-LOCAL
-A KUBE-FW-LOCAL -m comment --comment "other traffic to ns/local:http will be dropped by KUBE-PROXY-FIREWALL"
-A KUBE-MARK-MASQ -j MARK --or-mark 0x4000
-A KUBE-POSTROUTING -m mark ! --mark 0x4000/0x4000 -j RETURN
-A KUBE-POSTROUTING -j MARK --xor-mark 0x4000
-A KUBE-POSTROUTING -m comment --comment "kubernetes service traffic requiring SNAT" -j MASQUERADE --random-fully
-A KUBE-SEP-LOCAL1 -m comment --comment ns/local:http -s 10.180.0.1 -j KUBE-MARK-MASQ
-A KUBE-SEP-LOCAL1 -m comment --comment ns/local:http -m tcp -p tcp -j DNAT --to-destination 10.180.0.1:80
-A KUBE-SEP-LOCAL2 -m comment --comment ns/local:http -s 10.180.1.1 -j KUBE-MARK-MASQ
-A KUBE-SEP-LOCAL2 -m comment --comment ns/local:http -m tcp -p tcp -j DNAT --to-destination 10.180.1.1:80
-A KUBE-SEP-WEB1 -m comment --comment ns/web:http -s 10.180.0.7 -j KUBE-MARK-MASQ
-A KUBE-SEP-WEB1 -m comment --comment ns/web:http -m recent --name KUBE-SEP-WEB1 --set -m tcp -p tcp \
-j DNAT --to-destination 10.180.0.7:8080
-A KUBE-SEP-WEB2 -m comment --comment ns/web:http -s 10.180.0.8 -j KUBE-MARK-MASQ
-A KUBE-SEP-WEB2 -m comment --comment ns/web:http -m recent --name KUBE-SEP-WEB2 --set -m tcp -p tcp \
-j DNAT --to-destination 10.180.0.8:8080
-A KUBE-SEP-WEB3 -m comment --comment ns/web:http -s 10.180.0.9 -j KUBE-MARK-MASQ
-A KUBE-SEP-WEB3 -m comment --comment ns/web:http -m recent --name KUBE-SEP-WEB3 --set -m tcp -p tcp \
-j DNAT --to-destination 10.180.0.9:8080
-A KUBE-SVC-LOCAL -m comment --comment "ns/local:http cluster IP" -m tcp -p tcp -d 172.30.0.42 --dport 80 \
! -s 10.0.0.0/8 -j KUBE-MARK-MASQ
-A KUBE-SVC-LOCAL -m comment --comment "ns/local:http -> 10.180.0.1:80" -m statistic --mode random \
--probability 0.5000000000 -j KUBE-SEP-LOCAL1
-A KUBE-SVC-LOCAL -m comment --comment "ns/local:http -> 10.180.1.1:80" -j KUBE-SEP-LOCAL2
-A KUBE-SVC-WEB -m comment --comment "ns/web:http cluster IP" -m tcp -p tcp -d 172.30.0.41 --dport 80 \
! -s 10.0.0.0/8 -j KUBE-MARK-MASQ
-A KUBE-SVC-WEB -m comment --comment "ns/web:http -> 10.180.0.7:8080" -m recent --name KUBE-SEP-WEB1 --rcheck \
--seconds 600 --reap -j KUBE-SEP-WEB1
-A KUBE-SVC-WEB -m comment --comment "ns/web:http -> 10.180.0.8:8080" -m recent --name KUBE-SEP-WEB2 --rcheck \
--seconds 600 --reap -j KUBE-SEP-WEB2
-A KUBE-SVC-WEB -m comment --comment "ns/web:http -> 10.180.0.9:8080" -m recent --name KUBE-SEP-WEB3 --rcheck \
--seconds 600 --reap -j KUBE-SEP-WEB3
-A KUBE-SVC-WEB -m comment --comment "ns/web:http -> 10.180.0.7:8080" -m statistic --mode random \
--probability 0.3333333333 -j KUBE-SEP-WEB1
-A KUBE-SVC-WEB -m comment --comment "ns/web:http -> 10.180.0.8:8080" -m statistic --mode random \
--probability 0.5000000000 -j KUBE-SEP-WEB2
-A KUBE-SVC-WEB -m comment --comment "ns/web:http -> 10.180.0.9:8080" -j KUBE-SEP-WEB3
-A KUBE-SVL-LOCAL -m comment --comment "ns/local:http -> 10.180.0.1:80" -j KUBE-SEP-LOCAL1
-I PREROUTING -m comment --comment "kubernetes service portals" -j KUBE-SERVICES
-I OUTPUT -m comment --comment "kubernetes service portals" -j KUBE-SERVICES
-I POSTROUTING -m comment --comment "kubernetes postrouting rules" -j KUBE-POSTROUTING
COMMIT
"""

SECOND = """\
*nat
:KUBE-SVC-WEB - [0:0]
:KUBE-SEP-WEB1 - [0:0]
:KUBE-SEP-WEB3 - [0:0]
-A KUBE-SVC-WEB -m comment --comment "ns/web:http cluster IP" -m tcp -p tcp -d 172.30.0.41 --dport 80 \
! -s 10.0.0.0/8 -j KUBE-MARK-MASQ
-A KUBE-SVC-WEB -m comment --comment "ns/web:http -> 10.180.0.8:8080" -m recent --name KUBE-SEP-WEB2 --rcheck \
--seconds 600 --reap -j KUBE-SEP-WEB2
-A KUBE-SVC-WEB -m comment --comment "ns/web:http -> 10.180.0.8:8080" -j KUBE-SEP-WEB2
-X KUBE-SEP-WEB1
-X KUBE-SEP-WEB3
COMMIT
"""
"""A partial sync: two of the three endpoints of `ns/web` are gone."""
