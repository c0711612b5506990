import { firstDifference, pattern } from '../lib/bytes.ts';
import type { Client } from '../lib/client.ts';
import { eventually } from '../lib/eventually.ts';
import { OpenFlag } from '../lib/fuse-abi.ts';
import type { FuseMount } from '../lib/fuse-mount.ts';
import { guestTest } from '../lib/guest-test.ts';
import type { TestGuest } from '../lib/guest.ts';
import { mountWritebackCache } from '../lib/writeback-cache.ts';

/**
 * A write whose buffer was there when the kernel looked, and is gone when it copies: it waited for the page of the
 * file in between. Pages are locked then, so that the kernel may not wait for the buffer and has to begin again.
 */

const PAGE = 4096;
const LONG = 100_000;
/** Where a task stands that waits for a page which another one has locked. */
const WAITS_FOR_PAGE = /folio_wait_bit|__folio_lock|wait_on_page_bit|fuse_do_readpage|request_wait_answer/u;
/** Where the write begins in the file: not with a page, so that the rest of that page is needed. */
const FROM = 50;
/** Bytes of the write that lie in the first page of its buffer. */
const THERE = 100;

interface Bench {
  readonly fuse: FuseMount;
  readonly writer: Client;
  readonly other: Client;
  readonly fd: number;
  readonly before: Uint8Array;
  /** What is written, unless something happens to it. */
  readonly data: Uint8Array;
  /** Begins to write and does this to the buffer while the page of the file is awaited. */
  readonly write: (meanwhile: (memory: string) => Promise<unknown>) => Promise<string>;
}

async function bench(
  guest: TestGuest,
  stack: AsyncDisposableStack,
  { back }: { readonly back: boolean },
): Promise<Bench> {
  const options = { attrValidS: LONG, entryValidS: LONG };
  const fuse = stack.use(
    await (back
      ? mountWritebackCache(guest, options)
      : guest.mountFuse({
          passthrough: 'off',
          init: { dropFlags: ['AUTO_INVAL_DATA'] },
          ...options,
        })),
  );
  const [writer, other] = [stack.use(await guest.client()), stack.use(await guest.client())];
  await fuse.answerOpen('OPEN', { openFlags: OpenFlag.KEEP_CACHE });
  const before = pattern(3 * PAGE);
  await other.writeFile({ path: fuse.backing('f'), data: before });
  const memory = `${await guest.directory('tmpfs')}/memory`;
  const source = pattern(3 * PAGE, 9);
  await other.writeFile({ path: memory, data: source });
  const memoryFd = await writer.open({ path: memory, flags: 'O_RDWR' });
  const map = await writer.mmap({
    fd: memoryFd,
    length: 3 * PAGE,
    prot: 'PROT_READ|PROT_WRITE',
    flags: 'MAP_SHARED',
  });
  await writer.close({ fd: memoryFd });
  const fd = await writer.open({ path: fuse.file('f'), flags: 'O_RDWR' });
  await writer.posix_fadvise({ fd, offset: 0, length: 0, advice: 'POSIX_FADV_RANDOM' });
  const data = source.subarray(PAGE - THERE, 2 * PAGE - THERE + PAGE);
  const write: Bench['write'] = async (meanwhile) => {
    await writer.lseek({ fd, offset: FROM, whence: 'SEEK_SET' });
    const hold = await fuse.hold('READ');
    const reader = back ? undefined : stack.use(await guest.client());
    let reading: Promise<string> | undefined;
    if (reader !== undefined) {
      // Somebody else reads the page, and has it locked until it comes.
      const own = await reader.open({ path: fuse.file('f'), flags: 'O_RDONLY' });
      await reader.posix_fadvise({ fd: own, offset: 0, length: 0, advice: 'POSIX_FADV_RANDOM' });
      reading = reader.errno.pread({ fd: own, count: 10, offset: 0 });
    }
    const first = reader === undefined ? undefined : await hold.arrived();
    const writing = writer.errno.writeFrom({ fd, map, offset: PAGE - THERE, length: data.length });
    writing.catch(() => undefined);
    const request = first ?? (await hold.arrived());
    await eventually(
      () => guest.where(writer.pid),
      (where) => WAITS_FOR_PAGE.test(where),
    );
    await meanwhile(memory);
    await hold.stop();
    await hold.release(request);
    const outcome = await writing;
    await reading;
    return outcome;
  };
  return { fuse, writer, other, fd, before, data, write };
}

for (const back of [false, true]) {
  const how = back ? 'into the cache' : 'through the cache';
  guestTest(
    `a write ${how} whose buffer is gone before anything was copied is EFAULT and changes nothing`,
    async (t, guest) => {
      await using stack = new AsyncDisposableStack();
      const { fuse, writer, other, fd, before, write } = await bench(guest, stack, { back });
      const after = await fuse.position();
      const outcome = await write((memory) => other.truncate({ path: memory, length: 0 }));
      t.is(outcome, 'EFAULT');
      await writer.fsync({ fd });
      t.deepEqual(await fuse.opcodes({ opcode: 'WRITE', after }), [], 'nothing is written');
      await writer.posix_fadvise({ fd, offset: 0, length: 0, advice: 'POSIX_FADV_DONTNEED' });
      const later = await fuse.position();
      const seen = await writer.pread({ fd, count: PAGE, offset: 0 });
      t.is(firstDifference(seen, before.subarray(0, PAGE)), undefined, 'the file has what it had');
      const asked = await fuse.opcodes({ opcode: 'READ', after: later });
      t.deepEqual(asked, ['READ'], 'nobody has kept the page');
      await writer.close({ fd });
    },
  );

  guestTest(
    `a write ${how} of which a part of the buffer has to come anew writes that as it is then`,
    async (t, guest) => {
      await using stack = new AsyncDisposableStack();
      const { fuse, writer, other, fd, before, data, write } = await bench(guest, stack, { back });
      const outcome = await write(async (memory) => {
        const hole = await other.open({ path: memory, flags: 'O_RDWR' });
        const mode = 'FALLOC_FL_PUNCH_HOLE|FALLOC_FL_KEEP_SIZE';
        await other.fallocate({ fd: hole, mode, offset: PAGE, length: PAGE });
        await other.close({ fd: hole });
      });
      t.is(outcome, 'ok');
      const position = await writer.lseek({ fd, offset: 0, whence: 'SEEK_CUR' });
      t.is(position, FROM + data.length, 'all of it');
      await writer.fsync({ fd });
      const wanted = Uint8Array.from(before);
      wanted.set(data, FROM);
      wanted.fill(0, FROM + THERE, FROM + THERE + PAGE);
      const stored = await other.readFile({ path: fuse.backing('f') });
      t.is(firstDifference(stored, wanted), undefined, 'what the server has');
      const seen = await writer.pread({ fd, count: 3 * PAGE, offset: 0 });
      t.is(firstDifference(seen, wanted), undefined, 'what is read');
      await writer.close({ fd });
    },
  );
}
