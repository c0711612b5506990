import { createHash } from 'node:crypto';
import { bytes, concat, pattern } from '../lib/bytes.ts';
import { guestTest } from '../lib/guest-test.ts';

/** ioctl(2) on files of FUSE: what the server gets of it, and the caller of the answer. Passthrough takes no part. */

const STRANGER = { uid: 4000, gid: 4000 };
/** Of `fuse_ioctl_in` and `fuse_ioctl_out` (include/uapi/linux/fuse.h). */
const IOCTL_RETRY = 1 << 2;
const IOCTL_DIR = 1 << 4;
/** What its number says of an ioctl (include/uapi/asm-generic/ioctl.h): whether it has data, and in which direction. */
const DIRECTIONS = { none: 0, write: 1, read: 2, both: 3 } as const;
const SIZE = 8;
/** include/uapi/linux/fs.h */
const FS_IOC = {
  GETFLAGS: 0x8008_6601,
  SETFLAGS: 0x4008_6602,
  FSGETXATTR: 0x801c_581f,
  FSSETXATTR: 0x401c_5820,
} as const;

/** Two flags that any owner may set; as extended flags they have each other's value. */
const [NODUMP, NOATIME] = [0x40, 0x80];

function command(direction: keyof typeof DIRECTIONS): number {
  return ((DIRECTIONS[direction] << 30) | (SIZE << 16) | (0x7a << 8) | 1) >>> 0;
}

/** `fuse_ioctl_out` and what it brings. */
function answer({ result = 0, flags = 0 }, data: Uint8Array = new Uint8Array()): Uint8Array {
  const head = new DataView(new ArrayBuffer(16));
  head.setInt32(0, result, true);
  head.setUint32(4, flags, true);
  return concat(new Uint8Array(head.buffer), data);
}

function sha1(data: Uint8Array): string {
  return createHash('sha1').update(data).digest('hex');
}

function words(...values: readonly number[]): Uint8Array {
  return new Uint8Array(Uint32Array.from(values).buffer);
}

guestTest(
  'the server of an open passthrough file gets an ioctl with the data that its number says',
  async (t, guest) => {
    await using fuse = await guest.mountFuse();
    await using client = await guest.client();
    await client.writeFile({ path: fuse.backing('f'), data: 'x' });
    const fd = await client.open({ path: fuse.file('f'), flags: 'O_RDWR' });
    const { reply } = await fuse.waitFor('OPEN');
    const given = pattern(SIZE);
    const told = pattern(SIZE, 7);
    for (const direction of ['none', 'write', 'read', 'both'] as const) {
      const [brings, takes] = [DIRECTIONS[direction] & 1, DIRECTIONS[direction] & 2];
      const takeBack = await fuse.rule({
        match: { opcode: 'IOCTL' },
        action: { do: 'body', body: answer({ result: 5 }, takes ? told : undefined) },
      });
      const after = await fuse.position();
      const request = command(direction);
      const { ret, arg } = await client.ioctl({ fd, request, arg: given });
      t.is(ret, 5, `${direction}: the result`);
      t.deepEqual(arg, takes ? told : given, `${direction}: the data of the caller`);
      const [sent] = await fuse.requests({ opcode: 'IOCTL', after });
      t.like(
        sent?.args,
        {
          fh: reply?.open?.fh ?? -1,
          cmd: request,
          flags: 0,
          in_size: brings ? SIZE : 0,
          out_size: takes ? SIZE : 0,
          sha1: sha1(brings ? given : new Uint8Array()),
        },
        direction,
      );
      await takeBack();
    }
    await fuse.rule({ match: { opcode: 'IOCTL' }, action: { do: 'body', body: answer({}) } });
    const after = await fuse.position();
    await client.ioctl({ fd, request: command('none'), arg: 42 });
    const [sent] = await fuse.requests({ opcode: 'IOCTL', after });
    t.is(sent?.args['arg'], '42', 'an argument that is no pointer');
    await client.close({ fd });
    t.deepEqual(await fuse.dataRequests(), []);
  },
);

/** Answers to an ioctl that reads eight bytes, and what the caller gets. */
const ANSWERS: Readonly<Record<string, readonly [body: Uint8Array, outcome: string]>> = {
  'all that was asked for': [answer({}, pattern(SIZE)), 'ok'],
  'less data': [answer({}, pattern(SIZE - 1)), 'ok'],
  'more data': [answer({}, pattern(SIZE + 1)), 'EIO'],
  'an error as result': [answer({ result: -1 }), 'EPERM'],
  'ENOSYS as result': [answer({ result: -38 }), 'ENOTTY'],
  'a wish to have it again with other data': [answer({ flags: IOCTL_RETRY }), 'EIO'],
};

guestTest('answers to an ioctl become its outcome', async (t, guest) => {
  await using fuse = await guest.mountFuse({ passthrough: 'off' });
  await using client = await guest.client();
  const fd = await client.open({ path: fuse.file('f'), flags: 'O_RDWR|O_CREAT' });
  const call = () => client.errno.ioctl({ fd, request: command('read'), arg: new Uint8Array(SIZE) });
  for (const [what, [body, outcome]] of Object.entries(ANSWERS)) {
    // Should the kernel ask again after all, it gets an answer that ends it.
    await fuse.rule({ match: { opcode: 'IOCTL' }, action: { do: 'body', body: answer({}) } });
    await fuse.rule({ match: { opcode: 'IOCTL' }, times: 1, action: { do: 'body', body } });
    t.is(await call(), outcome, what);
  }
  const after = await fuse.position();
  await fuse.fail('IOCTL', 'ENOSYS');
  for (const time of ['first', 'second']) t.is(await call(), 'ENOTTY', `ENOSYS, the ${time} time`);
  t.is((await fuse.requests({ opcode: 'IOCTL', after })).length, 2, 'it may be another ioctl that is known');
  await fuse.fail('IOCTL', 'EBUSY');
  t.is(await call(), 'EBUSY', 'another error');
  await client.close({ fd });
});

guestTest(
  'an ioctl of a directory says so, and who has no business on the mount sends none',
  async (t, guest) => {
    await using fuse = await guest.mountFuse({ passthrough: 'off', allowOther: false });
    await using client = await guest.client();
    await fuse.rule({ match: { opcode: 'IOCTL' }, action: { do: 'body', body: answer({}) } });
    const flags = { 'O_RDONLY|O_DIRECTORY': IOCTL_DIR, 'O_TMPFILE|O_RDWR': 0 };
    const fds: number[] = [];
    for (const [open, expected] of Object.entries(flags)) {
      const fd = await client.open({ path: fuse.path, flags: open });
      const after = await fuse.position();
      await client.ioctl({ fd, request: command('none') });
      const sent = await fuse.requests({ opcode: 'IOCTL', after });
      t.deepEqual(
        sent.map(({ args }) => args['flags']),
        [expected],
        open,
      );
      fds.push(fd);
    }
    await client.setCredentials(STRANGER);
    const after = await fuse.position();
    for (const [at, fd] of fds.entries()) {
      for (const request of [command('none'), FS_IOC.GETFLAGS]) {
        const arg = new Uint8Array(SIZE);
        t.is(await client.errno.ioctl({ fd, request, arg }), 'EACCES', `${at}: ${request.toString(16)}`);
      }
    }
    t.deepEqual(await fuse.opcodes({ opcode: ['IOCTL', 'OPEN', 'OPENDIR'], after }), []);
    for (const fd of fds) await client.close({ fd });
  },
);

guestTest(
  'flags of files and directories are asked for and set by ioctls on an open of their own',
  async (t, guest) => {
    await using fuse = await guest.mountFuse({ passthrough: 'off' });
    await using client = await guest.client();
    await client.writeFile({ path: fuse.backing('f'), data: 'x' });
    await client.mkdir({ path: fuse.backing('d') });
    // Flags, size of extents, their number, project, size of copied extents: each another value.
    const extended = words(NODUMP | NOATIME, 3, 4, 5, 6, 0, 0);
    const changed = words(NODUMP, 0, 0, 77, 0, 0, 0);
    for (const [name, isDirectory] of [
      ['f', false],
      ['d', true],
    ] as const) {
      const fd = await client.open({ path: fuse.file(name), flags: 'O_RDONLY' });
      /** What an ioctl gives and sends, where the server answers one after the other so. */
      const made = async (request: number, arg: Uint8Array, answers: readonly Uint8Array[]) => {
        const takeBack: (() => Promise<void>)[] = [];
        for (const data of [...answers].reverse()) {
          const action = { do: 'body', body: answer({}, data) } as const;
          takeBack.push(await fuse.rule({ match: { opcode: 'IOCTL' }, times: 1, action }));
        }
        const after = await fuse.position();
        const got = await client.ioctl({ fd, request, arg });
        for (const each of takeBack) await each();
        const opens = await fuse.opcodes({ opcode: ['OPEN', 'OPENDIR'], after });
        t.is(opens[0], isDirectory ? 'OPENDIR' : 'OPEN', `${name}: an open of its own`);
        await fuse.waitFor({ opcode: isDirectory ? 'RELEASEDIR' : 'RELEASE', after });
        const sent = await fuse.requests({ opcode: 'IOCTL', after });
        const flags = new Set(sent.map(({ args }) => args['flags']));
        t.deepEqual([...flags], [isDirectory ? IOCTL_DIR : 0], `${name}: says whether it is a directory`);
        return { got: got.arg, last: sent.at(-1)?.args };
      };
      const asked = await made(FS_IOC.GETFLAGS, new Uint8Array(8), [words(NOATIME)]);
      t.deepEqual(asked.got?.subarray(0, 4), words(NOATIME), `${name}: GETFLAGS`);
      t.like(asked.last, { cmd: FS_IOC.GETFLAGS, in_size: 0, out_size: 4 }, `${name}: GETFLAGS`);
      const all = await made(FS_IOC.FSGETXATTR, new Uint8Array(28), [extended]);
      t.deepEqual(all.got, extended, `${name}: FSGETXATTR`);
      t.like(all.last, { cmd: FS_IOC.FSGETXATTR, in_size: 0, out_size: 28 }, `${name}: FSGETXATTR`);

      const set = await made(FS_IOC.SETFLAGS, concat(words(NODUMP), bytes('rest')), [extended, bytes('')]);
      const flag = { cmd: FS_IOC.SETFLAGS, in_size: 4, out_size: 0, sha1: sha1(words(NODUMP)) };
      t.like(set.last, flag, `${name}: SETFLAGS`);
      const more = await made(FS_IOC.FSSETXATTR, changed, [extended, bytes('')]);
      const whole = { cmd: FS_IOC.FSSETXATTR, in_size: 28, out_size: 0, sha1: sha1(changed) };
      t.like(more.last, whole, `${name}: FSSETXATTR`);
      await client.close({ fd });
    }
  },
);
