import { pattern } from '../lib/bytes.ts';
import type { Client } from '../lib/client.ts';
import { OpenFlag } from '../lib/fuse-abi.ts';
import type { FuseMount, FuseOptions } from '../lib/fuse-mount.ts';
import { guestTest } from '../lib/guest-test.ts';

/**
 * Whether the server is asked to take set-user-ID bits away depends on one capability of the caller, CAP_FSETID of the
 * initial user namespace, and on what the server has agreed to.
 */

/** include/uapi/linux/fuse.h */
const OPEN_KILL_SUIDGID = 1 << 0;
const WRITE_KILL_SUIDGID = 1 << 2;
const [FATTR_MODE, FATTR_UID, FATTR_GID] = [1 << 0, 1 << 1, 1 << 2];
const FATTR_SIZE = 1 << 3;
const FATTR_KILL_SUIDGID = 1 << 11;

/** Root in all of them. */
const CALLERS = {
  'who has all capabilities but CAP_FSETID': ['setpriv', '--bounding-set', '-fsetid'],
  'who has CAP_FSETID alone': ['setpriv', '--bounding-set', '-all,+fsetid'],
  'root of another user namespace': ['unshare', '--user', '--map-root-user'],
} as const;
const KEEPS = 'who has CAP_FSETID alone';

/** Each request that may ask for it, and whether it did; those that were not sent are left out. */
async function asks(fuse: FuseMount, client: Client): Promise<Record<string, boolean>> {
  const after = await fuse.position();
  const path = fuse.file('f');
  await client.close({ fd: await client.open({ path, flags: 'O_WRONLY|O_TRUNC' }) });
  const made = await client.open({ path: fuse.file('made'), flags: 'O_WRONLY|O_CREAT|O_TRUNC' });
  await client.close({ fd: made });
  const cached = await client.open({ path, flags: 'O_RDWR' });
  await client.pwrite({ fd: cached, data: pattern(10), offset: 0 });
  await client.ftruncate({ fd: cached, length: 3 });
  const sent = await fuse.requests({ opcode: ['OPEN', 'CREATE', 'WRITE', 'SETATTR'], after });
  await fuse.answerOpen({ opcode: 'OPEN', path: '/f' }, { openFlags: OpenFlag.DIRECT_IO }, 1);
  const direct = await client.open({ path, flags: 'O_RDWR' });
  const later = await fuse.position();
  await client.pwrite({ fd: direct, data: pattern(10), offset: 0 });
  const [write] = await fuse.requests({ opcode: 'WRITE', after: later });
  for (const fd of [direct, cached]) await client.close({ fd });
  await client.unlink({ path: fuse.file('made') });

  const found: Record<string, boolean> = {};
  for (const { opcode, args } of sent) {
    if (opcode === 'SETATTR' && (Number(args['valid']) & FATTR_SIZE) === 0) continue;
    const bit =
      opcode === 'SETATTR'
        ? Number(args['valid']) & FATTR_KILL_SUIDGID
        : opcode === 'WRITE'
          ? Number(args['write_flags']) & WRITE_KILL_SUIDGID
          : Number(args['open_flags']) & OPEN_KILL_SUIDGID;
    found[opcode] = found[opcode] === true || bit !== 0;
  }
  found['direct WRITE'] = (Number(write?.args['write_flags']) & WRITE_KILL_SUIDGID) !== 0;
  return found;
}

type Init = NonNullable<FuseOptions['init']>;

/** What a server has agreed to, and who is then asked when the caller has no CAP_FSETID. */
const AGREED: Readonly<Record<string, { readonly init: Init; readonly asked: Record<string, boolean> }>> = {
  HANDLE_KILLPRIV_V2: {
    init: { addFlags: ['HANDLE_KILLPRIV_V2'] },
    asked: { OPEN: true, CREATE: true, WRITE: true, SETATTR: true, 'direct WRITE': true },
  },
  'HANDLE_KILLPRIV_V2 without ATOMIC_O_TRUNC': {
    init: { addFlags: ['HANDLE_KILLPRIV_V2'], dropFlags: ['ATOMIC_O_TRUNC'] },
    // CREATE of a file that the kernel does not know of may empty one; OPEN does not, a SETATTR follows it.
    asked: { OPEN: false, CREATE: true, WRITE: true, SETATTR: true, 'direct WRITE': true },
  },
  HANDLE_KILLPRIV: {
    init: { addFlags: ['HANDLE_KILLPRIV'] },
    asked: { OPEN: false, CREATE: false, WRITE: false, SETATTR: false, 'direct WRITE': true },
  },
  neither: {
    init: {},
    asked: { OPEN: false, CREATE: false, WRITE: false, SETATTR: false, 'direct WRITE': true },
  },
};

for (const [what, { init, asked }] of Object.entries(AGREED)) {
  guestTest(
    `CAP_FSETID alone decides whether setuid bits are to be cleared, where the server has agreed to ${what}`,
    async (t, guest) => {
      await using fuse = await guest.mountFuse({ allowOther: true, passthrough: 'off', init });
      await using root = await guest.client();
      await root.writeFile({ path: fuse.backing('f'), data: 'program' });
      for (const [who, launcher] of Object.entries(CALLERS)) {
        await using client = await guest.client({ launcher });
        const keeps = Object.fromEntries(Object.keys(asked).map((request) => [request, false]));
        t.deepEqual(await asks(fuse, client), who === KEEPS ? keeps : asked, who);
      }
    },
  );
}

/** Changes of a setuid program that take the bit away, by root but without CAP_FSETID; and what is to be set by them. */
const CHANGES: Readonly<
  Record<string, { readonly make: (client: Client, path: string) => Promise<unknown>; readonly sets: number }>
> = {
  chown: {
    make: (client, path) => client.chown({ path, uid: 1, gid: 2 }),
    sets: FATTR_UID | FATTR_GID,
  },
  truncate: {
    make: (client, path) => client.truncate({ path, length: 3 }),
    sets: FATTR_SIZE,
  },
  ftruncate: {
    make: async (client, path) => {
      const fd = await client.open({ path, flags: 'O_WRONLY' });
      await client.ftruncate({ fd, length: 2 });
      await client.close({ fd });
    },
    sets: FATTR_SIZE,
  },
};

/** Who takes the bit away: the server by itself, the server where it is asked to, or the kernel by a mode. */
const CLEARED_BY: Readonly<Record<string, { readonly init: Init; readonly bit: number }>> = {
  HANDLE_KILLPRIV: { init: { addFlags: ['HANDLE_KILLPRIV'] }, bit: 0 },
  HANDLE_KILLPRIV_V2: { init: { addFlags: ['HANDLE_KILLPRIV_V2'] }, bit: FATTR_KILL_SUIDGID },
  neither: { init: {}, bit: FATTR_MODE },
};
const TOLD = FATTR_MODE | FATTR_UID | FATTR_GID | FATTR_SIZE | FATTR_KILL_SUIDGID;

guestTest(
  'a server that has agreed to clear setuid bits is told no mode by which the kernel would, whichever way it has agreed (A42)',
  async (t, guest) => {
    for (const [agreed, { init, bit }] of Object.entries(CLEARED_BY)) {
      await using fuse = await guest.mountFuse({ passthrough: 'off', init });
      await using root = await guest.client();
      await using client = await guest.client({ launcher: ['setpriv', '--bounding-set', '-fsetid'] });
      for (const [what, { make, sets }] of Object.entries(CHANGES)) {
        await root.writeFile({ path: fuse.backing(what), data: 'program' });
        await root.chmod({ path: fuse.backing(what), mode: 0o4755 });
        const after = await fuse.position();
        await make(client, fuse.file(what));
        const sent = await fuse.requests({ opcode: 'SETATTR', after });
        const told = sent.map(({ args }) => Number(args['valid']) & TOLD);
        t.deepEqual(told, [sets | bit], `${what}, by a server that has agreed to ${agreed}`);
        if (bit === FATTR_MODE) {
          t.is(Number(sent[0]?.args['mode']) & 0o7777, 0o755, `${what}: the mode without the bit`);
        }
        const asked = await fuse.opcodes({ opcode: 'GETATTR', after });
        const why = `${what}, ${agreed}: the mode is asked for where the kernel has to know it`;
        t.is(asked.length > 0, bit === FATTR_MODE, why);
      }
    }
  },
);
