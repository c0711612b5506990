import type { Client } from '../lib/client.ts';
import { FATTR_FH, type OpcodeName, type RequestRecord } from '../lib/fuse-abi.ts';
import type { FuseMount } from '../lib/fuse-mount.ts';
import { guestTest } from '../lib/guest-test.ts';
import { openFlagNames } from '../lib/open-flag-names.ts';

/** What stands in requests about a file whose data go past the server (include/uapi/linux/fuse.h). */

const OPEN_KILL_SUIDGID = 1 << 0;
const FATTR_LOCKOWNER = 1 << 9;
const FATTR_KILL_SUIDGID = 1 << 11;
const GETATTR_FH = 1 << 0;
const LK_FLOCK = 1 << 0;
const RELEASE_FLOCK_UNLOCK = 1 << 1;
const STRANGER = { uid: 4000, gid: 4001 };
/** chown(2) */
const UNCHANGED = -1;
/** So many that what they have in common is no chance. */
const OWNERS = 10;

const WITH_LOCKS = { addFlags: ['POSIX_LOCKS', 'FLOCK_LOCKS'] } as const;

/** What makes the kernel send a request about an open file, and where the request has the handle. */
const BY_HANDLE: Partial<
  Readonly<
    Record<
      OpcodeName,
      {
        readonly make: (client: Client, fd: number) => Promise<unknown>;
        readonly handles?: (args: RequestRecord['args']) => unknown[];
      }
    >
  >
> = {
  FSYNC: { make: (client, fd) => client.fsync({ fd }) },
  FALLOCATE: { make: (client, fd) => client.fallocate({ fd, offset: 0, length: 10_000 }) },
  LSEEK: { make: (client, fd) => client.lseek({ fd, offset: 0, whence: 'SEEK_DATA' }) },
  GETATTR: {
    make: (client, fd) => client.lseek({ fd, offset: 0, whence: 'SEEK_END' }),
    handles: (args) => [Number(args['getattr_flags']) & GETATTR_FH ? args['fh'] : 'no handle'],
  },
  SETATTR: {
    make: (client, fd) => client.ftruncate({ fd, length: 5000 }),
    handles: (args) => [Number(args['valid']) & FATTR_FH ? args['fh'] : 'no handle'],
  },
  COPY_FILE_RANGE: {
    make: (client, fd) => client.copy_file_range({ fdIn: fd, offIn: 0, fdOut: fd, offOut: 100, length: 50 }),
    handles: (args) => [args['fh_in'], args['fh_out']],
  },
  GETLK: { make: (client, fd) => client.getlk({ fd, type: 'F_WRLCK', start: 0, length: 10 }) },
  SETLK: { make: (client, fd) => client.setlk({ fd, type: 'F_RDLCK', start: 0, length: 10 }) },
  FLUSH: { make: async (client, fd) => client.close({ fd: await client.dup({ fd }) }) },
  RELEASE: { make: (client, fd) => client.close({ fd }) },
};

guestTest('requests about an open file name the handle of that open, not of another', async (t, guest) => {
  await using fuse = await guest.mountFuse({ init: WITH_LOCKS });
  await using client = await guest.client();
  await client.writeFile({ path: fuse.backing('f'), data: 'x'.repeat(200) });
  const other = await client.open({ path: fuse.file('f'), flags: 'O_RDWR' });
  const after = await fuse.position();
  const fd = await client.open({ path: fuse.file('f'), flags: 'O_RDWR' });
  const { reply } = await fuse.waitFor({ opcode: 'OPEN', after });
  const fh = reply?.open?.fh ?? -1;
  t.true(fh > 1, 'a handle of its own');

  for (const [opcode, { make, handles }] of Object.entries(BY_HANDLE)) {
    const before = await fuse.position();
    await make(client, fd);
    const name = opcode as OpcodeName;
    // Kernels that know the wider one ask by it first.
    const wanted = name === 'COPY_FILE_RANGE' ? ([name, 'COPY_FILE_RANGE_64'] as const) : name;
    const { args } = await fuse.waitFor({ opcode: wanted, after: before });
    for (const handle of handles?.(args) ?? [args['fh']]) t.is(handle, fh, opcode);
  }
  await client.close({ fd: other });
  t.deepEqual(await fuse.dataRequests(), []);
});

guestTest(
  'OPEN and RELEASE have the flags that mean something to a server, CREATE the mode and umask',
  async (t, guest) => {
    for (const masks of [false, true]) {
      await using fuse = await guest.mountFuse({ init: masks ? { addFlags: ['DONT_MASK'] } : {} });
      await using client = await guest.client();
      await client.umask({ mask: 0o027 });
      const fd = await client.open({ path: fuse.file('f'), flags: 'O_RDWR|O_CREAT', mode: 0o666 });
      await client.close({ fd });
      const { args } = await fuse.waitFor('CREATE');
      const mode = (Number(args['mode']) & 0o7777).toString(8);
      t.is(mode, masks ? '666' : '640', masks ? 'the server applies the umask' : 'the kernel applies it');
      t.is(args['umask'], 0o027, 'the umask is told');
      await client.mkdir({ path: fuse.file('d'), mode: 0o777 });
      await client.mknod({ path: fuse.file('n'), mode: 0o010_666 });
      for (const [opcode, plain, masked] of [
        ['MKDIR', 0o777, 0o750],
        ['MKNOD', 0o010_666, 0o010_640],
      ] as const) {
        const made = await fuse.waitFor(opcode);
        t.is(Number(made.args['mode']), masks ? plain : masked, `${opcode}: the same`);
      }

      const after = await fuse.position();
      for (const without of ['O_CREAT|O_NOCTTY', 'O_EXCL']) {
        const before = await fuse.position();
        const flags = `O_RDWR|O_APPEND|O_NOATIME|${without}`;
        await client.close({ fd: await client.open({ path: fuse.file('f'), flags }) });
        for (const opcode of ['OPEN', 'RELEASE'] as const) {
          const { args: sent } = await fuse.waitFor({ opcode, after: before });
          t.is(openFlagNames(sent['flags']), 'O_RDWR|O_APPEND|O_NOATIME', `${opcode} without ${without}`);
        }
      }
      const made = { path: fuse.file('made'), flags: 'O_RDWR|O_CREAT|O_NOCTTY|O_NOATIME' };
      await client.close({ fd: await client.open(made) });
      const create = await fuse.waitFor({ opcode: 'CREATE', after });
      t.regex(openFlagNames(create.args['flags']), /O_NOATIME/, 'CREATE');
      t.notRegex(openFlagNames(create.args['flags']), /O_NOCTTY/, 'CREATE');
    }
  },
);

/** Whether the server is asked to take set-user-ID bits away, by what and by whom. */
async function asksToClear(
  fuse: FuseMount,
  work: () => Promise<unknown>,
): Promise<Partial<Record<'OPEN' | 'CREATE' | 'TMPFILE' | 'SETATTR', boolean>>> {
  const after = await fuse.position();
  await work();
  const requests = await fuse.requests({ opcode: ['OPEN', 'CREATE', 'TMPFILE', 'SETATTR'], after });
  return Object.fromEntries(
    requests.map(({ opcode, args }) => {
      const bit =
        opcode === 'SETATTR'
          ? Number(args['valid']) & FATTR_KILL_SUIDGID
          : Number(args['open_flags']) & OPEN_KILL_SUIDGID;
      return [opcode, bit !== 0];
    }),
  );
}

guestTest(
  'with HANDLE_KILLPRIV_V2 truncations by a stranger, and changes of owner, ask for setuid bits to be cleared (A42)',
  async (t, guest) => {
    await using fuse = await guest.mountFuse({
      allowOther: true,
      init: { addFlags: ['HANDLE_KILLPRIV_V2'] },
    });
    await using root = await guest.client();
    await using stranger = await guest.client();
    await root.writeFile({ path: fuse.backing('f'), data: 'program' });
    // Whatever the directories above the mount allow.
    for (const client of [root, stranger]) await client.chdir({ path: fuse.path });
    await stranger.setCredentials(STRANGER);
    const path = 'f';
    for (const [who, client, asks] of [
      ['root', root, false],
      ['a stranger', stranger, true],
    ] as const) {
      const opened = await asksToClear(fuse, async () => {
        await client.close({ fd: await client.open({ path, flags: 'O_WRONLY|O_TRUNC' }) });
      });
      t.deepEqual(opened, { OPEN: asks }, `${who}: O_TRUNC`);
      const made = await asksToClear(fuse, async () => {
        const flags = 'O_WRONLY|O_CREAT|O_TRUNC';
        await client.close({ fd: await client.open({ path: `made by ${who}`, flags }) });
      });
      t.deepEqual(made, { CREATE: asks }, `${who}: O_TRUNC of a name that there is not`);
      for (const flags of ['O_WRONLY|O_CREAT', 'O_WRONLY|O_CREAT|O_EXCL|O_TRUNC']) {
        const other = await asksToClear(fuse, async () => {
          await client.close({ fd: await client.open({ path: `${flags} by ${who}`, flags }) });
        });
        t.deepEqual(other, { CREATE: false }, `${who}: ${flags} has nothing to clear`);
      }
      const nameless = await asksToClear(fuse, async () => {
        const flags = 'O_WRONLY|O_TMPFILE|O_TRUNC|O_EXCL';
        await client.close({ fd: await client.open({ path: '.', flags }) });
      });
      t.deepEqual(nameless, { TMPFILE: false }, `${who}: a file that never gets a name has nothing to clear`);
      const fd = await client.open({ path, flags: 'O_RDWR' });
      const cut = await asksToClear(fuse, () => client.ftruncate({ fd, length: 3 }));
      t.deepEqual(cut, { SETATTR: asks }, `${who}: ftruncate`);
      await client.close({ fd });
    }
    for (const [what, uid, gid] of [
      ['owner and group', 1, 1],
      ['the owner', 2, UNCHANGED],
      ['the group', UNCHANGED, 2],
    ] as const) {
      const owned = await asksToClear(fuse, () => root.chown({ path, uid, gid }));
      t.deepEqual(owned, { SETATTR: true }, `root: chown of ${what}`);
    }
    const mode = await asksToClear(fuse, () => root.chmod({ path, mode: 0o4755 }));
    t.deepEqual(mode, { SETATTR: false }, 'root: chmod');
    await root.mkdir({ path: 'd', mode: 0o2755 });
    const directory = await asksToClear(fuse, () => root.chown({ path: 'd', uid: 1, gid: 1 }));
    t.deepEqual(directory, { SETATTR: false }, 'root: chown of a directory');
    t.deepEqual(await fuse.dataRequests(), []);
  },
);

guestTest(
  'without HANDLE_KILLPRIV_V2 no truncation and no change of owner asks for setuid bits to be cleared (A42)',
  async (t, guest) => {
    await using fuse = await guest.mountFuse({ allowOther: true });
    await using root = await guest.client();
    await using stranger = await guest.client();
    await root.writeFile({ path: fuse.backing('f'), data: 'contents' });
    await stranger.chdir({ path: fuse.path });
    await stranger.setCredentials(STRANGER);
    const opened = await asksToClear(fuse, async () => {
      for (const path of ['f', 'made']) {
        await stranger.close({ fd: await stranger.open({ path, flags: 'O_WRONLY|O_CREAT|O_TRUNC' }) });
      }
    });
    t.deepEqual(opened, { OPEN: false, CREATE: false }, 'a stranger: O_TRUNC');
    const cut = await asksToClear(fuse, () => stranger.truncate({ path: 'f', length: 3 }));
    t.deepEqual(cut, { SETATTR: false }, 'a stranger: truncate');
    const owned = await asksToClear(fuse, () => root.chown({ path: fuse.file('f'), uid: 1, gid: 1 }));
    t.deepEqual(owned, { SETATTR: false }, 'root: chown');
  },
);

guestTest(
  'locks, FLUSH and truncations name one owner for a process, and who it is (A44)',
  async (t, guest) => {
    await using fuse = await guest.mountFuse({ init: WITH_LOCKS });
    await using client = await guest.client();
    await using other = await guest.client();
    await client.writeFile({ path: fuse.backing('f'), data: 'contents' });
    const lockBy = async (who: Client) => {
      const after = await fuse.position();
      const fd = await who.open({ path: fuse.file('f'), flags: 'O_RDWR' });
      await who.setlk({ fd, type: 'F_RDLCK', start: 2, length: 3 });
      await who.ftruncate({ fd, length: 6 });
      await who.close({ fd: await who.dup({ fd }) });
      const [lock, cut, flush] = await Promise.all([
        fuse.waitFor({ opcode: 'SETLK', after }),
        fuse.waitFor({ opcode: 'SETATTR', after }),
        fuse.waitFor({ opcode: 'FLUSH', after }),
      ]);
      t.deepEqual([lock.args['start'], lock.args['end']], [2, 4], 'first and last byte');
      t.is(lock.args['pid'], who.pid, 'the process');
      t.is(Number(lock.args['lk_flags']) & LK_FLOCK, 0, 'a POSIX lock is none by flock(2)');
      t.not(Number(cut.args['valid']) & FATTR_LOCKOWNER, 0, 'a truncation says on whose behalf it is');
      const owner = lock.args['owner'];
      t.deepEqual([cut.args['lock_owner'], flush.args['lock_owner']], [owner, owner], 'SETATTR, FLUSH');
      return { fd, owner };
    };
    const [one, two] = [await lockBy(client), await lockBy(other)];
    t.not(one.owner, two.owner, 'two processes are two owners');

    const after = await fuse.position();
    await client.setlk({ fd: one.fd, type: 'F_UNLCK', start: 0, length: 0 });
    await other.setlk({ fd: two.fd, type: 'F_UNLCK', start: 0, length: 0 });
    await client.flock({ fd: one.fd, operation: 'LOCK_EX|LOCK_NB' });
    const asked = await fuse.requests({ opcode: ['SETLK', 'SETLKW'], after });
    const kinds = asked.map(({ opcode, args }) => [opcode, Number(args['lk_flags']) & LK_FLOCK]);
    t.deepEqual(kinds, [
      ['SETLK', 0],
      ['SETLK', 0],
      ['SETLK', LK_FLOCK],
    ]);
    const waiting = other.flock({ fd: two.fd, operation: 'LOCK_EX' });
    waiting.catch(() => undefined);
    await fuse.waitFor({ opcode: 'SETLKW', after }, 'arrived');
    await client.flock({ fd: one.fd, operation: 'LOCK_UN' });
    t.is(await waiting, 0, 'who waits for a flock gets it');
    const [granted] = await fuse.requests({ opcode: 'SETLKW', after });
    await other.close({ fd: two.fd });
    const { args } = await fuse.waitFor({ opcode: 'RELEASE', after });
    t.not(Number(args['release_flags']) & RELEASE_FLOCK_UNLOCK, 0, 'RELEASE gives a flock back');
    t.is(args['lock_owner'], granted?.args['owner'], 'RELEASE names the owner of the flock');
    t.is(await client.errno.flock({ fd: one.fd, operation: 'LOCK_EX|LOCK_NB' }), 'ok', 'nobody has it then');
    await client.close({ fd: one.fd });
    t.deepEqual(await fuse.dataRequests(), []);
  },
);

guestTest('no part of a lock owner is that of an address in the kernel (A44)', async (t, guest) => {
  await using fuse = await guest.mountFuse({ init: WITH_LOCKS });
  await using client = await guest.client();
  await client.writeFile({ path: fuse.backing('f'), data: 'contents' });
  const owners: bigint[] = [];
  for (let nth = 0; nth < OWNERS; nth++) {
    const fd = await client.open({ path: fuse.file('f'), flags: 'O_RDONLY' });
    const after = await fuse.position();
    // It is the open file that has a flock.
    await client.flock({ fd, operation: 'LOCK_SH' });
    const { args } = await fuse.waitFor({ opcode: ['SETLK', 'SETLKW'], after });
    owners.push(BigInt(String(args['owner'])));
  }
  t.is(new Set(owners).size, OWNERS, 'each has its own');
  // What is in the kernel's memory begins with ones on x86-64 and arm64, and an open file is aligned there.
  t.true(
    owners.some((owner) => owner >> 47n !== 0x1_ffffn),
    'the beginning',
  );
  t.true(
    owners.some((owner) => owner % 64n !== 0n),
    'the end',
  );
  const beginnings = new Set(owners.map((owner) => owner >> 32n));
  t.true(beginnings.size > OWNERS / 2, 'the upper halves are not those of one part of the memory');
});

guestTest('FLUSH is sent in the name of who closes, not of who opened', async (t, guest) => {
  await using fuse = await guest.mountFuse();
  await using client = await guest.client();
  await client.writeFile({ path: fuse.backing('f'), data: 'contents' });
  const fd = await client.open({ path: fuse.file('f'), flags: 'O_RDWR' });
  await client.setCredentials(STRANGER);
  await client.close({ fd });
  t.like((await fuse.requests('FLUSH'))[0], STRANGER);
  t.deepEqual(await fuse.dataRequests(), []);
});
