import type { Assertions } from 'ava';

import { text } from '../lib/bytes.ts';
import { guestTest } from '../lib/guest-test.ts';
import type { TestGuest } from '../lib/guest.ts';
import { upperOnFuse } from '../lib/overlay-on-fuse.ts';

/** Data that are copied up after the metadata, at every step of which the upper server may refuse. */

const METACOPY = 'trusted.overlay.metacopy';
const CAPABILITY = 'security.capability';
/** `struct vfs_cap_data` of version 2 with CAP_NET_BIND_SERVICE, include/uapi/linux/capability.h. */
const CAPABLE = Uint8Array.from([0, 0, 0, 2, 0, 4, ...new Uint8Array(14)]);

type Opcode = 'GETXATTR' | 'SETXATTR' | 'REMOVEXATTR' | 'WRITE' | 'OPEN';

/**
 * What the server answers to an open for writing of a file with a capability, or without; what that gives.
 * The kernel asks twice for a capability, for its length and for it, to find either of them out.
 */
type Step = readonly [
  capable: boolean,
  opcode: Opcode,
  nth: number,
  errno: string,
  gives: string,
  times?: number,
];

const STEPS: readonly Step[] = [
  [false, 'GETXATTR', 1, 'EDQUOT', 'EDQUOT'],
  [false, 'GETXATTR', 1, 'EOPNOTSUPP', 'ok'],
  // It asks for the attribute as such where no security module has an answer.
  [false, 'GETXATTR', 1, 'EOPNOTSUPP', 'ok', 2],
  [true, 'GETXATTR', 1, 'EDQUOT', 'EDQUOT'],
  [true, 'GETXATTR', 3, 'EDQUOT', 'EDQUOT'],
  [true, 'SETXATTR', 1, 'EDQUOT', 'EDQUOT'],
  [false, 'OPEN', 1, 'EDQUOT', 'EDQUOT'],
  [false, 'WRITE', 1, 'EDQUOT', 'EDQUOT'],
  [false, 'REMOVEXATTR', 1, 'EDQUOT', 'EDQUOT'],
];

/** Later kernels tell what is no capability from what they could not read. */
const LATER_STEPS: readonly Step[] = [
  [false, 'GETXATTR', 1, 'EINVAL', 'ok'],
  [true, 'GETXATTR', 3, 'ERANGE', 'EIO'],
];

guestTest(
  'data that the upper server does not take after the metadata stay below, and are copied when it does (E4)',
  (t, guest) => refused(t, guest, STEPS),
);

guestTest(
  'a capability that is not valid is copied up as none, and one that changes is an error (E4)',
  (t, guest) => {
    guest.needs(guest.expected.overlaysWithDataLayers, 'capabilities that are told from errors');
    return refused(t, guest, LATER_STEPS);
  },
);

async function refused(t: Assertions, guest: TestGuest, steps: readonly Step[]): Promise<void> {
  await using client = await guest.client();
  await using stack = await upperOnFuse(guest, client, 'metacopy=on,redirect_dir=on');
  const { overlay, fuse, lower } = stack;
  for (const [at, [capable, opcode, nth, errno, gives, times = 1]] of steps.entries()) {
    const [name, title] = [`f${at}`, `${capable ? 'capable, ' : ''}${opcode} ${nth}: ${errno}`];
    const [path, upper] = [overlay.file(name), fuse.backing(`upper/${name}`)];
    await client.writeFile({ path: `${lower}/${name}`, data: 'from below' });
    await client.chmod({ path, mode: 0o755 });
    if (capable) await client.setxattr({ path: upper, name: CAPABILITY, data: CAPABLE });
    t.is(await client.errno.getxattr({ path: upper, name: METACOPY }), 'ok', `${title}: metadata alone`);
    const open = () => client.errno.open({ path, flags: 'O_WRONLY' });
    const permit = await fuse.rule({
      match: { opcode, path: `/upper/${name}` },
      nth,
      times,
      action: { do: 'error', errno },
    });
    t.is(await open(), gives, title);
    await permit();
    const mark = gives === 'ok' ? 'ENODATA' : 'ok';
    t.is(await client.errno.getxattr({ path: upper, name: METACOPY }), mark, `${title}: the mark`);
    t.is(text(await client.readFile({ path })), 'from below', `${title}: the data`);
    t.is(await open(), 'ok', `${title}: and then not`);
    t.is(await client.errno.getxattr({ path: upper, name: METACOPY }), 'ENODATA', title);
    t.is(text(await client.readFile({ path: upper })), 'from below', `${title}: copied`);
    if (opcode === 'SETXATTR') continue;
    const kept = await client.errno.getxattr({ path: upper, name: CAPABILITY });
    t.is(kept, capable ? 'ok' : 'ENODATA', `${title}: the capability`);
  }
}

guestTest(
  'metadata alone are copied up where files without a name cannot be made, and then the data (E4)',
  async (t, guest) => {
    await using client = await guest.client();
    const rules = [{ match: { opcode: 'TMPFILE' }, action: { do: 'error', errno: 'EOPNOTSUPP' } }] as const;
    await using stack = await upperOnFuse(guest, client, 'metacopy=on,redirect_dir=on', { rules });
    const { overlay, fuse, lower } = stack;
    await client.writeFile({ path: `${lower}/f`, data: 'from below' });
    const path = overlay.file('f');
    const mark = { path: fuse.backing('upper/f'), name: METACOPY };
    let after = await fuse.position();
    await client.chmod({ path, mode: 0o600 });
    t.deepEqual(await fuse.opcodes({ opcode: 'WRITE', after }), [], 'no data');
    t.is(await client.errno.getxattr(mark), 'ok');
    t.is(text(await client.readFile({ path })), 'from below', 'they are read from below');
    after = await fuse.position();
    const fd = await client.open({ path, flags: 'O_RDWR' });
    t.deepEqual(await fuse.opcodes({ opcode: 'WRITE', after }), ['WRITE'], 'the data');
    t.is(await client.errno.getxattr(mark), 'ENODATA');
    t.is(text(await client.pread({ fd, count: 100, offset: 0 })), 'from below');
    await client.close({ fd });
  },
);

guestTest(
  'a file that O_TRUNC empties is copied up as a whole, of which nothing is (E4)',
  async (t, guest) => {
    await using client = await guest.client();
    await using stack = await upperOnFuse(guest, client, 'metacopy=on,redirect_dir=on');
    const { overlay, fuse, lower } = stack;
    for (const flags of ['O_RDONLY|O_TRUNC', 'O_WRONLY|O_TRUNC']) {
      const name = flags.slice(0, 8);
      await client.writeFile({ path: `${lower}/${name}`, data: 'from below' });
      const after = await fuse.position();
      await client.close({ fd: await client.open({ path: overlay.file(name), flags }) });
      const set = await fuse.requests({ opcode: 'SETXATTR', after });
      t.false(
        set.some(({ args }) => args['name'] === METACOPY),
        `${flags}: never marked as metadata alone`,
      );
      t.deepEqual(await fuse.opcodes({ opcode: 'WRITE', after }), [], flags);
      t.is((await client.stat({ path: fuse.backing(`upper/${name}`) })).size, 0, flags);
    }
  },
);
