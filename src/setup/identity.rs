//! Who may attach: what a peer's ids prove, and whom the options admit.

use hqq_sys::ids::{self, Kind};
use hqq_sys::peer;
use hqq_sys::sock::Creds;

use crate::error::{Error, Result};
use crate::link::core::Peer;
use crate::options::Options;
use crate::setup::memory::os;

/// Name of the operation that finds out whether an id is proof of who has it.
pub(super) const MAPPED: &str = "reading how ids are mapped";

/// Checks that a peer with these ids is admitted. With `any_user` and without a list of users or groups in the options,
/// every peer is. An id that anybody may have (see [`hqq_sys::ids`]) admits nobody.
///
/// # Errors
/// [`Error::OtherUser`]; [`Error::Os`] if this process has no descriptor left to find out.
pub(super) fn check_user(options: &Options, any_user: bool, creds: Creds) -> Result<()> {
    let (uid, expected) = (creds.uid, peer::uid());
    let anybody = any_user && !options.admits_others();
    if anybody || is_admitted(options, expected, creds, ids::proves).map_err(os(MAPPED))? {
        Ok(())
    } else {
        Err(Error::OtherUser { uid, expected })
    }
}

/// The ids of a peer.
pub(super) fn creds(peer: &Peer) -> Creds {
    Creds { pid: peer.pid.unwrap_or(0), uid: peer.uid, gid: peer.gid }
}

/// Whether a process of user `own` admits a peer with these ids. `proves` says whether an id is proof of who has it. The other
/// end of a pair is this very process, which needs no proof: the kernel attests process ids too.
fn is_admitted<E>(
    options: &Options,
    own: u32,
    creds: Creds,
    proves: impl Fn(Kind, u32) -> Result<bool, E>,
) -> Result<bool, E> {
    let Creds { pid, uid, gid } = creds;
    let is_self = pid == peer::pid() && uid == own;
    if is_self || options.admits_user(own, uid) && proves(Kind::User, uid)? {
        return Ok(true);
    }
    Ok(options.admits_group(gid) && proves(Kind::Group, gid)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_that_proves_nothing_admits_nobody() {
        const OVERFLOW: u32 = 65534;
        let admits = |options: &Options, own, uid, gid, complete| {
            let creds = Creds { pid: 0, uid, gid };
            is_admitted(options, own, creds, |_, id| Ok::<_, ()>(complete || id != OVERFLOW)).unwrap()
        };
        let (plain, users) = (Options::new(), Options::new().allow_uid(OVERFLOW).allow_uid(7));
        let groups = Options::new().allow_gid(OVERFLOW).allow_gid(7);
        for (options, own, uid, gid) in
            [(&plain, OVERFLOW, OVERFLOW, 1), (&users, 1000, OVERFLOW, 1), (&groups, 1000, 1, OVERFLOW)]
        {
            assert!(
                admits(options, own, uid, gid, true),
                "where all ids are mapped it is one like any other"
            );
            assert!(!admits(options, own, uid, gid, false));
        }
        // Others are what they seem in any namespace.
        for (options, own, uid, gid) in
            [(&plain, 1000, 1000, OVERFLOW), (&users, 1000, 7, OVERFLOW), (&groups, 1000, OVERFLOW, 7)]
        {
            assert!(admits(options, own, uid, gid, false));
            assert!(!admits(options, own, uid + 1, gid + 1, true));
        }
        let itself = Creds { pid: peer::pid(), uid: OVERFLOW, gid: OVERFLOW };
        assert!(is_admitted(&plain, OVERFLOW, itself, |_, _| Ok::<_, ()>(false)).unwrap());
        assert!(!is_admitted(&plain, 1000, itself, |_, _| Ok::<_, ()>(false)).unwrap());
        // What cannot be found out is no admission.
        assert_eq!(is_admitted(&plain, 1, Creds { pid: 0, uid: 1, gid: 1 }, |_, _| Err(24)), Err(24));
    }
}
