import { createHash } from 'node:crypto';
import { concat, pattern, text } from '../lib/bytes.ts';
import { SyscallError, type Client } from '../lib/client.ts';
import { u32, u64 } from '../lib/entry-answer.ts';
import { guestTest } from '../lib/guest-test.ts';
import { IOCTL_IN as IN, IOCTL_OUT as OUT, ioctlAnswer, ioctlNumber } from '../lib/ioctl-answer.ts';

/** How much an ioctl may bring along, where from, and what becomes of it when that cannot be had. */

const PAGE = 4096;
/** linux/fs.h */
const [GETFLAGS, SETFLAGS] = [0x8008_6601, 0x4008_6602];
const FSSETXATTR = 0x401c_5820;
const FSXATTR_BYTES = 28;
/** linux/fsverity.h */
const [ENABLE_VERITY, MEASURE_VERITY] = [0x4080_6685, 0xc004_6686];
const ENABLE_BYTES = 128;
/** Where no process has memory. */
const NOWHERE = 16;

function sha1(data: Uint8Array): string {
  return createHash('sha1').update(data).digest('hex');
}

guestTest(
  'an ioctl whose data cannot be read or written is EFAULT, before or after the server is asked',
  async (t, guest) => {
    await using fuse = await guest.mountFuse();
    await using client = await guest.client();
    await client.writeFile({ path: fuse.backing('f'), data: 'contents' });
    const fd = await client.open({ path: fuse.file('f'), flags: 'O_RDWR' });
    for (const bytes of [8, PAGE, 5000]) {
      await fuse.rule({
        match: { opcode: 'IOCTL' },
        action: { do: 'body', body: ioctlAnswer(0, pattern(bytes)) },
      });
      for (const [direction, asked] of [
        [IN, 0],
        [OUT, 1],
        [IN | OUT, 0],
      ] as const) {
        const after = await fuse.position();
        const what = `${bytes} bytes, direction ${direction}`;
        t.is(
          await client.errno.ioctl({ fd, request: ioctlNumber(direction, bytes), arg: NOWHERE }),
          'EFAULT',
          what,
        );
        t.is((await fuse.requests({ opcode: 'IOCTL', after })).length, asked, `${what}: asked`);
      }
      // With nothing to write it does not matter where.
      await fuse.rule({ match: { opcode: 'IOCTL' }, action: { do: 'body', body: ioctlAnswer(7) } });
      t.is(
        (await client.ioctl({ fd, request: ioctlNumber(OUT, bytes), arg: NOWHERE })).ret,
        7,
        `${bytes} bytes`,
      );
    }
    await client.close({ fd });
  },
);

guestTest('an ioctl brings along no more pages than a request may have', async (t, guest) => {
  await using client = await guest.client();
  for (const maxPages of [1, 2]) {
    const init = { addFlags: ['MAX_PAGES'], maxPages } as const;
    await using fuse = await guest.mountFuse({ init });
    await client.writeFile({ path: fuse.backing('f'), data: 'contents' });
    const fd = await client.open({ path: fuse.file('f'), flags: 'O_RDWR' });
    await fuse.rule({ match: { opcode: 'IOCTL' }, action: { do: 'body', body: ioctlAnswer(0) } });
    for (const direction of [IN, OUT, IN | OUT]) {
      for (const bytes of [PAGE, PAGE + 1, 2 * PAGE, 2 * PAGE + 1]) {
        const call = { fd, request: ioctlNumber(direction, bytes), arg: pattern(bytes) };
        const expected = bytes > maxPages * PAGE ? 'ENOMEM' : 'ok';
        t.is(await client.errno.ioctl(call), expected, `${bytes} bytes, ${maxPages} pages, ${direction}`);
      }
    }
    await client.close({ fd });
  }
});

guestTest('file attributes that cannot be set are the error of what was asked last', async (t, guest) => {
  await using fuse = await guest.mountFuse({ passthrough: 'off', entryValidS: 1000 });
  await using client = await guest.client();
  await client.writeFile({ path: fuse.backing('f'), data: 'contents' });
  const fd = await client.open({ path: fuse.file('f'), flags: 'O_RDONLY' });
  const xattr = concat(u32(0x80), new Uint8Array(FSXATTR_BYTES - 4));
  for (const [request, arg] of [
    [SETFLAGS, concat(u32(0x40), u32(0))],
    [FSSETXATTR, xattr],
  ] as const) {
    const attempt = async (what: string): Promise<string> => {
      const errno = await client.errno.ioctl({ fd, request, arg });
      // Nothing is left open, whatever came of it.
      const after = await fuse.position();
      t.is(await client.errno.ioctl({ fd, request: GETFLAGS, arg: new Uint8Array(8) }), 'EACCES', what);
      await fuse.waitFor({ opcode: 'RELEASE', after });
      return errno;
    };
    const rules = [
      await fuse.fail('IOCTL', 'EACCES'),
      await fuse.rule({
        match: { opcode: 'IOCTL' },
        times: 1,
        action: { do: 'body', body: ioctlAnswer(0, xattr) },
      }),
    ];
    t.is(await attempt('the second IOCTL'), 'EACCES', `${request}: the second IOCTL`);
    // The answer with attributes is used up: again, and now it is the open that fails.
    rules.push(
      await fuse.rule({
        match: { opcode: 'IOCTL' },
        times: 1,
        action: { do: 'body', body: ioctlAnswer(0, xattr) },
      }),
      await fuse.rule({
        match: { opcode: 'OPEN' },
        nth: 2,
        times: 1,
        action: { do: 'error', errno: 'EDQUOT' },
      }),
    );
    t.is(await attempt('the second OPEN'), 'EDQUOT', `${request}: the second OPEN`);
    for (const takeBack of rules) await takeBack();
  }
  t.is((await fuse.requests('OPEN')).length, 2 * (2 + 2 + 1 + 1) + 1);
  await client.close({ fd });
});

/** Addresses of mappings by the name of the file that they are of (proc_pid_maps(5)). */
async function addressOf(client: Client, name: string): Promise<bigint> {
  const lines = text(await client.readFile({ path: '/proc/self/maps' })).split('\n');
  const line = lines.find((each) => each.endsWith(`/${name}`));
  if (line === undefined) throw new Error(`${name} is not mapped`);
  return BigInt(`0x${line.split('-')[0]}`);
}

async function mapped(client: Client, path: string, data: Uint8Array): Promise<void> {
  await client.writeFile({ path, data });
  const fd = await client.open({ path, flags: 'O_RDONLY' });
  await client.mmap({ fd, length: data.length, prot: 'PROT_READ', flags: 'MAP_PRIVATE' });
  await client.close({ fd });
}

guestTest('data that come with a result that is an error reach the caller as well', async (t, guest) => {
  await using fuse = await guest.mountFuse();
  await using client = await guest.client();
  await client.writeFile({ path: fuse.backing('f'), data: 'contents' });
  const at = await guest.directory('ext4', 'memory');
  const fd = await client.open({ path: fuse.file('f'), flags: 'O_RDWR' });
  for (const bytes of [8, PAGE, 5000]) {
    const name = `memory-of-${bytes}`;
    await client.writeFile({ path: `${at}/${name}`, data: pattern(bytes, 3) });
    const memory = await client.open({ path: `${at}/${name}`, flags: 'O_RDWR' });
    const how = { fd: memory, length: bytes, prot: 'PROT_READ|PROT_WRITE', flags: 'MAP_PRIVATE' };
    const map = await client.mmap(how);
    const arg = Number(await addressOf(client, name));
    await fuse.rule({
      match: { opcode: 'IOCTL' },
      action: { do: 'body', body: ioctlAnswer(-1, pattern(bytes, 5)) },
    });
    t.is(await client.errno.ioctl({ fd, request: ioctlNumber(OUT, bytes), arg }), 'EPERM', `${bytes} bytes`);
    const has = await client.mread({ map, offset: 0, length: bytes });
    t.deepEqual(has, pattern(bytes, 5), `${bytes} bytes: what the server says beside the error`);
    await client.munmap({ map });
    await client.close({ fd: memory });
  }
  await client.close({ fd });
});

/** `struct fsverity_enable_arg`. */
function enableArg(salt: [bytes: number, at: bigint], signature: [bytes: number, at: bigint]): Uint8Array {
  const head = concat(u32(1), u32(1), u32(PAGE), u32(salt[0]), u64(salt[1]));
  const tail = concat(u32(signature[0]), u32(0), u64(signature[1]));
  return concat(head, tail, new Uint8Array(ENABLE_BYTES - head.length - tail.length));
}

async function errnoOf(
  client: Client,
  fd: number,
  request: number,
  arg: Uint8Array | number,
): Promise<string> {
  try {
    await client.ioctl({ fd, request, arg });
    return 'ok';
  } catch (error) {
    if (error instanceof SyscallError) return error.errno;
    throw error;
  }
}

guestTest('enabling verity brings salt and signature to the server', async (t, guest) => {
  guest.needs(guest.expected.passesVerity, 'verity of FUSE files');
  await using fuse = await guest.mountFuse();
  await using client = await guest.client();
  await client.writeFile({ path: fuse.backing('f'), data: 'contents' });
  const at = await guest.directory('ext4', 'parts');
  const [salt, signature] = [pattern(3000, 3), pattern(5000, 5)];
  await mapped(client, `${at}/verity-salt`, salt);
  await mapped(client, `${at}/verity-signature`, signature);
  const saltAt = await addressOf(client, 'verity-salt');
  const signatureAt = await addressOf(client, 'verity-signature');
  const fd = await client.open({ path: fuse.file('f'), flags: 'O_RDONLY' });
  await fuse.rule({ match: { opcode: 'IOCTL' }, action: { do: 'body', body: ioctlAnswer(0) } });
  const [none, nothing] = [[0, 0n] as [number, bigint], new Uint8Array()];
  for (const [what, [saltPart, saltBytes], [signaturePart, signatureBytes]] of [
    ['neither', [none, nothing], [none, nothing]],
    ['salt', [[3000, saltAt], salt], [none, nothing]],
    ['a signature', [none, nothing], [[5000, signatureAt], signature]],
    ['both', [[3000, saltAt], salt], [[5000, signatureAt], signature]],
  ] as [string, [[number, bigint], Uint8Array], [[number, bigint], Uint8Array]][]) {
    const after = await fuse.position();
    const arg = enableArg(saltPart, signaturePart);
    t.is(await errnoOf(client, fd, ENABLE_VERITY, arg), 'ok', what);
    const { args } = await fuse.waitFor({ opcode: 'IOCTL', after });
    const all = concat(arg, saltBytes, signatureBytes);
    t.like(args, { cmd: ENABLE_VERITY, in_size: all.length, out_size: 0, sha1: sha1(all) }, what);
  }
  const after = await fuse.position();
  const MIB = 1024 * 1024;
  for (const [what, arg, errno] of [
    ['nowhere', NOWHERE, 'EFAULT'],
    ['a salt that is nowhere', enableArg([16, BigInt(NOWHERE)], none), 'EFAULT'],
    ['a signature that is nowhere', enableArg(none, [16, BigInt(NOWHERE)]), 'EFAULT'],
    ['a salt that is too large', enableArg([MIB + 1, saltAt], none), 'ENOMEM'],
    ['a signature that is too large', enableArg(none, [MIB + 1, signatureAt]), 'ENOMEM'],
    ['one that is larger than a request', enableArg(none, [MIB, signatureAt]), 'ENOMEM'],
  ] as const) {
    t.is(await errnoOf(client, fd, ENABLE_VERITY, arg), errno, what);
  }
  t.deepEqual(await fuse.opcodes({ opcode: 'IOCTL', after }), [], 'the server is not asked');
  await client.close({ fd });
});

guestTest('measuring verity has as much room as the caller says that the digest has', async (t, guest) => {
  guest.needs(guest.expected.passesVerity, 'verity of FUSE files');
  await using fuse = await guest.mountFuse();
  await using client = await guest.client();
  await client.writeFile({ path: fuse.backing('f'), data: 'contents' });
  const fd = await client.open({ path: fuse.file('f'), flags: 'O_RDONLY' });
  for (const room of [0, 32, 64, 6000]) {
    // `struct fsverity_digest`: algorithm, then how many bytes there is room for.
    const arg = concat(Uint8Array.of(0, 0, room & 255, room >> 8), pattern(room, 3));
    const out = concat(Uint8Array.of(1, 0, room & 255, room >> 8), pattern(room, 5));
    const after = await fuse.position();
    const takeBack = await fuse.rule({
      match: { opcode: 'IOCTL' },
      action: { do: 'body', body: ioctlAnswer(0, out) },
    });
    t.deepEqual((await client.ioctl({ fd, request: MEASURE_VERITY, arg })).arg, out, `room for ${room}`);
    const { args } = await fuse.waitFor({ opcode: 'IOCTL', after });
    t.like(args, { in_size: arg.length, out_size: arg.length, sha1: sha1(arg) }, `room for ${room}: asked`);
    await takeBack();
  }
  const after = await fuse.position();
  t.is(await errnoOf(client, fd, MEASURE_VERITY, NOWHERE), 'EFAULT');
  t.deepEqual(await fuse.opcodes({ opcode: 'IOCTL', after }), [], 'the server is not asked');
  await client.close({ fd });
});
