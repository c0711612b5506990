import { aclFor } from '../lib/access-control-list.ts';
import { guestTest } from '../lib/guest-test.ts';

/** Access control lists that are set, or told, in cases that are not those of every day. */

const OWNER = 1000;
const GROUP = 5000;
/** Longer than any test. Seconds. */
const LONG = 100_000;
const [ACCESS, DEFAULT] = ['system.posix_acl_access', 'system.posix_acl_default'];
const [READ, EXECUTE] = [4, 1];
/** FUSE_SETXATTR_ACL_KILL_SGID */
const KILL_SGID = 1;
const PAGE = 4096;

guestTest(
  'who is outside of the group of a directory has setgid cleared by either of its lists (A45, F12)',
  async (t, guest) => {
    const init = { addFlags: ['POSIX_ACL', 'SETXATTR_EXT'] } as const;
    await using fuse = await guest.mountFuse({ init, defaultPermissions: true });
    await using root = await guest.client();
    await root.chmod({ path: fuse.root, mode: 0o755 });
    await root.mkdir({ path: fuse.backing('d'), mode: 0o755 });
    await root.chown({ path: fuse.backing('d'), uid: OWNER, gid: GROUP });
    await using owner = await guest.client();
    await owner.chdir({ path: fuse.path });
    await owner.setCredentials({ uid: OWNER, gid: OWNER, groups: [] });
    for (const name of [ACCESS, DEFAULT]) {
      const after = await fuse.position();
      await owner.setxattr({ path: 'd', name, data: aclFor([OWNER + 1], READ) });
      const [request] = await fuse.requests({ opcode: 'SETXATTR', after });
      t.like(request?.args, { name, setxattr_flags: KILL_SGID }, name);
    }
  },
);

guestTest(
  'attributes are asked for again after an access control list, set or refused: its mode may be another (A45)',
  async (t, guest) => {
    const init = { addFlags: ['POSIX_ACL'] } as const;
    await using fuse = await guest.mountFuse({
      init,
      defaultPermissions: true,
      attrValidS: LONG,
      entryValidS: LONG,
    });
    await using root = await guest.client();
    await root.writeFile({ path: fuse.backing('f'), data: 'backing', mode: 0o644 });
    const path = fuse.file('f');
    const asked = async (): Promise<string[]> => {
      const after = await fuse.position();
      await root.stat({ path });
      return fuse.opcodes({ opcode: 'GETATTR', after });
    };
    await asked();
    t.deepEqual(await asked(), [], 'before');
    for (const [refusal, errno] of [
      [undefined, 'ok'],
      ['EIO', 'EIO'],
    ] as const) {
      const takeBack = refusal && (await fuse.fail('SETXATTR', refusal));
      t.is(await root.errno.setxattr({ path, name: ACCESS, data: aclFor([OWNER], READ) }), errno);
      await takeBack?.();
      t.deepEqual(await asked(), ['GETATTR'], `a list that gives ${errno}`);
      t.deepEqual(await asked(), [], `a list that gives ${errno}: once`);
    }
  },
);

guestTest('an access control list of a whole page is told (A45)', async (t, guest) => {
  const init = { addFlags: ['POSIX_ACL'] } as const;
  await using fuse = await guest.mountFuse({ init, defaultPermissions: true });
  await using root = await guest.client();
  await root.writeFile({ path: fuse.backing('f'), data: 'backing', mode: 0o644 });
  // Header, four entries that there always are, and these: one more is beyond a page.
  const list = aclFor(
    Array.from({ length: 507 }, (_each, at) => 1000 + at),
    READ,
  );
  t.true(list.length <= PAGE && list.length + 8 > PAGE, 'as many entries as fit');
  await fuse.rule({ match: { opcode: 'GETXATTR' }, action: { do: 'body', body: list } });
  const told = await root.getxattr({ path: fuse.file('f'), name: ACCESS, size: 2 * PAGE });
  t.deepEqual(told, list, 'what the server has said');
  const [request] = await fuse.requests('GETXATTR');
  t.is(request?.args['size'], PAGE, 'it is asked for a page');
});

guestTest(
  'the access control list of a directory decides who finds the names in it, and who lists them (A45, F4)',
  async (t, guest) => {
    const init = { addFlags: ['POSIX_ACL'] } as const;
    await using fuse = await guest.mountFuse({ init, defaultPermissions: true });
    await using root = await guest.client();
    await using stranger = await guest.client();
    await root.chmod({ path: fuse.root, mode: 0o755 });
    for (const [name, who] of [
      ['for him', OWNER],
      ['for another', OWNER + 1],
    ] as const) {
      await root.mkdir({ path: fuse.backing(name), mode: 0o700 });
      await root.writeFile({ path: fuse.backing(`${name}/f`), data: 'backing', mode: 0o644 });
      await root.setxattr({ path: fuse.backing(name), name: ACCESS, data: aclFor([who], READ | EXECUTE) });
    }
    await stranger.chdir({ path: fuse.path });
    await stranger.setCredentials({ uid: OWNER, gid: OWNER, groups: [] });
    for (const [name, errno] of [
      ['for him', 'ok'],
      ['for another', 'EACCES'],
    ] as const) {
      t.is(
        await stranger.errno.stat({ path: `${name}/f` }),
        errno,
        `a list ${name}: a name in the directory`,
      );
      const open = { path: name, flags: 'O_RDONLY|O_DIRECTORY' };
      t.is(await stranger.errno.open(open), errno, `a list ${name}: the directory itself`);
    }
  },
);
