//! Addresses outside of a run, and which of them guests may use.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, SocketAddr, ToSocketAddrs as _};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::{Error, Result};

/// An address, or several, at which guests may listen or to which they may connect.
///
/// ```
/// let grant: sandpool::AddressGrant = "tcp:127.0.0.1:8000".parse()?;
/// assert_eq!(grant.to_string(), "tcp:127.0.0.1:8000");
/// assert!("tcp:[::1]:*".parse::<sandpool::AddressGrant>().is_ok());
/// assert!("tcp:*:443".parse::<sandpool::AddressGrant>().is_ok());
/// assert!("unix:/run/app/socket".parse::<sandpool::AddressGrant>().is_ok());
/// assert!("sandpool:leaderboard".parse::<sandpool::AddressGrant>().is_ok());
/// # Ok::<(), sandpool::Error>(())
/// ```
///
/// | address | grants |
/// | --- | --- |
/// | `tcp:HOST:PORT` | a port of TCP. HOST is an address, in brackets if it is one of IPv6, or a name, which is looked up when the run starts. `*` in the place of HOST or PORT stands for any |
/// | `unix:PATH` | a socket of the file system. The path may lie in no directory that guests may write to |
/// | `sandpool:NAME` | another run of the same user, which listens by this name |
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct AddressGrant(Granted);

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
enum Granted {
    Tcp {
        /// `None` for any
        host: Option<Host>,
        /// `None` for any
        port: Option<u16>,
        /// The addresses of a name.
        found: Vec<IpAddr>,
    },
    /// The path as the grant names it, and from the root.
    Unix(String, PathBuf),
    Name(String),
}

/// A host of TCP.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
enum Host {
    Ip(IpAddr),
    Name(String),
}

/// An address that a guest has named.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Address {
    Tcp { host: Host, port: u16 },
    Unix(String),
    Name(String),
}

/// The place of a granted address.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Place {
    /// The addresses of one host, in the order in which they are to be tried.
    Tcp(Vec<SocketAddr>),
    Unix(PathBuf),
    /// The name of a run.
    Name(String),
}

/// The reason why a guest can't use an address.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum AddressRefusal {
    /// The text is no address, and what would be one.
    NoAddress(&'static str),
    /// The address isn't granted. This grant would be.
    NotGranted(String),
}

/// The most bytes of the name of a run.
const NAME_MAX: usize = 64;

const FORMS: &str = "an address is tcp:HOST:PORT, unix:PATH or sandpool:NAME";

impl AddressGrant {
    /// Finds what the grant names: the addresses of a host, the place of a path.
    pub(crate) fn look_up(&mut self) -> Result<()> {
        let text = self.to_string();
        match &mut self.0 {
            Granted::Tcp { host: Some(Host::Name(name)), found, .. } => {
                let source = |source| Error::Address { address: text.clone(), source };
                *found =
                    (&**name, 0).to_socket_addrs().map_err(source)?.map(|address| address.ip()).collect();
                found.dedup();
            }
            Granted::Unix(_, path) => {
                let source = |source| Error::Address { address: text.clone(), source };
                *path = std::path::absolute(&*path).map_err(source)?;
            }
            _ => {}
        }
        Ok(())
    }

    /// The paths in whose place guests must not be able to put anything; `names` is the folder of the sockets that have names.
    pub(crate) fn paths(&self, names: &Path) -> Vec<PathBuf> {
        match &self.0 {
            Granted::Unix(_, path) => vec![path.clone()],
            Granted::Name(name) => vec![names.to_owned(), names.join(name)],
            Granted::Tcp { .. } => Vec::new(),
        }
    }

    /// The place of an address, if this grants it.
    fn place(&self, address: &Address) -> Option<Place> {
        match (&self.0, address) {
            (Granted::Tcp { host, port, found }, Address::Tcp { host: wanted, port: at }) => {
                let ips = match (host, wanted) {
                    (Some(Host::Ip(granted)), Host::Ip(ip)) if granted == ip => vec![*ip],
                    (Some(Host::Name(granted)), Host::Name(name)) if granted.eq_ignore_ascii_case(name) => {
                        found.clone()
                    }
                    (None, Host::Ip(ip)) => vec![*ip],
                    // The one name that means the same everywhere.
                    (None, Host::Name(name)) if name.eq_ignore_ascii_case("localhost") => {
                        vec![Ipv4Addr::LOCALHOST.into()]
                    }
                    _ => return None,
                };
                let is_granted = port.is_none_or(|port| port == *at);
                is_granted.then(|| Place::Tcp(ips.into_iter().map(|ip| SocketAddr::new(ip, *at)).collect()))
            }
            (Granted::Unix(granted, path), Address::Unix(wanted)) => {
                let is_granted = granted == wanted || path.to_str() == Some(wanted);
                is_granted.then(|| Place::Unix(path.clone()))
            }
            (Granted::Name(granted), Address::Name(name)) => {
                (granted == name).then(|| Place::Name(name.clone()))
            }
            _ => None,
        }
    }
}

/// The place of the address that a guest has named, if one of the grants has it. `flag` is the flag of such grants.
pub(crate) fn granted(
    grants: &[AddressGrant],
    text: &str,
    flag: &str,
) -> std::result::Result<Place, AddressRefusal> {
    let address = Address::read(text).map_err(AddressRefusal::NoAddress)?;
    grants
        .iter()
        .find_map(|grant| grant.place(&address))
        .ok_or_else(|| AddressRefusal::NotGranted(format!("{flag} {address}")))
}

impl Address {
    fn read(text: &str) -> std::result::Result<Self, &'static str> {
        match text.split_once(':') {
            Some(("tcp", rest)) => {
                let (host, port) = split_port(rest)?;
                let port = port.parse().map_err(|_| "a port is a number from 0 to 65535")?;
                Ok(Self::Tcp { host: read_host(host)?, port })
            }
            Some(("unix", path)) if !path.is_empty() && !path.contains('\0') => {
                Ok(Self::Unix(path.to_owned()))
            }
            Some(("sandpool", name)) => check_name(name).map(|()| Self::Name(name.to_owned())),
            _ => Err(FORMS),
        }
    }
}

fn split_port(text: &str) -> std::result::Result<(&str, &str), &'static str> {
    text.rsplit_once(':').ok_or("an address of TCP is tcp:HOST:PORT")
}

fn read_host(text: &str) -> std::result::Result<Host, &'static str> {
    if let Some(inner) = text.strip_prefix('[') {
        let ip = inner.strip_suffix(']').and_then(|ip| ip.parse().ok()).map(IpAddr::V6);
        return ip.map(Host::Ip).ok_or("what stands in brackets is an address of IPv6");
    }
    if let Ok(ip) = text.parse() {
        return Ok(Host::Ip(IpAddr::V4(ip)));
    }
    let is_name = text.split('.').all(|part| {
        !part.is_empty()
            && part.len() <= 63
            && part.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_'))
    });
    // A last part of digits would be read as an address by some.
    let is_number =
        text.rsplit('.').next().is_some_and(|last| last.bytes().all(|byte| byte.is_ascii_digit()));
    if is_name && !is_number && text.len() <= 253 {
        Ok(Host::Name(text.to_owned()))
    } else {
        Err("a host is a name, an address of IPv4, or one of IPv6 in brackets")
    }
}

fn check_name(name: &str) -> std::result::Result<(), &'static str> {
    let is_fit = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.');
    if (1..=NAME_MAX).contains(&name.len()) && !name.starts_with('.') && name.bytes().all(is_fit) {
        Ok(())
    } else {
        Err(
            "the name of a run has 1 to 64 letters, digits, dots, hyphens and underscores, and begins with no dot",
        )
    }
}

impl fmt::Display for Host {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Ip(IpAddr::V4(ip)) => ip.fmt(f),
            Self::Ip(IpAddr::V6(ip)) => write!(f, "[{ip}]"),
            Self::Name(name) => f.write_str(name),
        }
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tcp { host, port } => write!(f, "tcp:{host}:{port}"),
            Self::Unix(path) => write!(f, "unix:{path}"),
            Self::Name(name) => write!(f, "sandpool:{name}"),
        }
    }
}

impl fmt::Display for AddressGrant {
    /// Writes the address as it can be read.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.0 {
            Granted::Tcp { host, port, .. } => {
                let any = || "*".to_owned();
                let host = host.as_ref().map_or_else(any, ToString::to_string);
                write!(f, "tcp:{host}:{}", port.map_or_else(any, |port| port.to_string()))
            }
            Granted::Unix(path, _) => write!(f, "unix:{path}"),
            Granted::Name(name) => write!(f, "sandpool:{name}"),
        }
    }
}

impl std::str::FromStr for AddressGrant {
    type Err = Error;

    /// Reads `tcp:HOST:PORT`, `unix:PATH` or `sandpool:NAME`.
    fn from_str(text: &str) -> Result<Self> {
        let invalid = |why: &str| Error::Invalid {
            what: format!("`{text}` is not an address that can be granted: {why}"),
            hint: Some("write tcp:HOST:PORT, unix:PATH or sandpool:NAME".to_owned()),
        };
        if let Some(rest) = text.strip_prefix("tcp:") {
            let (host, port) = split_port(rest).map_err(invalid)?;
            let host = if host == "*" { None } else { Some(read_host(host).map_err(invalid)?) };
            let port = match port {
                "*" => None,
                port => Some(port.parse().map_err(|_| invalid("a port is a number from 0 to 65535, or *"))?),
            };
            return Ok(Self(Granted::Tcp { host, port, found: Vec::new() }));
        }
        match Address::read(text).map_err(invalid)? {
            Address::Unix(path) => Ok(Self(Granted::Unix(path.clone(), path.into()))),
            Address::Name(name) => Ok(Self(Granted::Name(name))),
            Address::Tcp { .. } => Err(invalid(FORMS)),
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a panic is how a test fails")]
mod tests {
    use super::*;

    fn grants(texts: &[&str]) -> Vec<AddressGrant> {
        let looked_up = |text: &&str| {
            let mut grant: AddressGrant = text.parse().unwrap();
            grant.look_up().unwrap();
            grant
        };
        texts.iter().map(looked_up).collect()
    }

    #[test]
    fn exactly_what_was_granted_is_reachable() {
        let grants = grants(&[
            "tcp:127.0.0.1:80",
            "tcp:[::1]:*",
            "tcp:10.0.0.1:0",
            "unix:/run/a",
            "unix:b",
            "sandpool:board",
            "tcp:localhost:7",
        ]);
        let reach = |text: &str| granted(&grants, text, "--connect");
        let tcp = |text: &str| Ok(Place::Tcp(vec![text.parse().unwrap()]));
        assert_eq!(reach("tcp:127.0.0.1:80"), tcp("127.0.0.1:80"));
        assert_eq!(reach("tcp:[::1]:9"), tcp("[::1]:9"));
        assert_eq!(reach("tcp:[0:0::1]:9"), tcp("[::1]:9"));
        assert_eq!(reach("tcp:10.0.0.1:0"), tcp("10.0.0.1:0"));
        assert_eq!(reach("unix:/run/a"), Ok(Place::Unix("/run/a".into())));
        let here = std::path::absolute("b").unwrap();
        assert_eq!(reach("unix:b"), Ok(Place::Unix(here.clone())));
        assert_eq!(reach(&format!("unix:{}", here.display())), Ok(Place::Unix(here)));
        assert_eq!(reach("sandpool:board"), Ok(Place::Name("board".to_owned())));
        assert!(
            matches!(reach("tcp:LOCALHOST:7"), Ok(Place::Tcp(all)) if all.iter().all(|at| at.ip().is_loopback()))
        );
        for other in [
            "tcp:127.0.0.1:81",
            "tcp:127.0.0.2:80",
            "tcp:localhost:80",
            "tcp:[::2]:9",
            "tcp:10.0.0.1:1",
            "unix:/run/../run/a",
            "unix:/run/a/",
            "unix:./b",
            "unix:board",
            "sandpool:boards",
        ] {
            assert_eq!(reach(other), Err(AddressRefusal::NotGranted(format!("--connect {other}"))));
        }
        for none in [
            "",
            "tcp:",
            "tcp:1",
            "tcp:::1:80",
            "tcp:1.2.3:4",
            "tcp:0x7f.1:4",
            "tcp:a:65536",
            "tcp:a:-1",
            "tcp::1",
            "tcp:[::1:80",
            "tcp:a b:1",
            "unix:",
            "unix:a\0b",
            "sandpool:",
            "sandpool:../a",
            "sandpool:.a",
            "sandpool:a/b",
            "http://a",
            "tcp:*:80",
            "127.0.0.1:80",
        ] {
            assert!(matches!(reach(none), Err(AddressRefusal::NoAddress(_))), "{none:?}: {:?}", reach(none));
        }
    }

    #[test]
    fn patterns_stand_for_any_host_or_port() {
        let all = grants(&["tcp:*:*"]);
        assert_eq!(
            granted(&all, "tcp:1.2.3.4:5", "").unwrap(),
            Place::Tcp(vec!["1.2.3.4:5".parse().unwrap()])
        );
        assert_eq!(
            granted(&all, "tcp:localhost:5", "").unwrap(),
            Place::Tcp(vec!["127.0.0.1:5".parse().unwrap()])
        );
        // No name is looked up for a guest.
        assert!(granted(&all, "tcp:example.org:5", "").is_err());
        assert!(granted(&all, "unix:/a", "").is_err());
    }

    #[test]
    fn a_grant_is_written_as_it_is_read() {
        for text in ["tcp:*:*", "tcp:a.example:1", "tcp:[::1]:*", "tcp:*:0", "unix:a:b", "sandpool:a.b-c_1"] {
            assert_eq!(text.parse::<AddressGrant>().unwrap().to_string(), text);
        }
        for bad in ["tcp:a", "tcp:**:1", "unix:", "sandpool:*", "udp:a:1"] {
            assert!(bad.parse::<AddressGrant>().is_err(), "{bad}");
        }
    }
}
