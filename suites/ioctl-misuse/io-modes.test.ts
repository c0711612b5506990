import { text } from '../lib/bytes.ts';
import type { Client } from '../lib/client.ts';
import { OpenFlag } from '../lib/fuse-abi.ts';
import type { FuseMount, FuseOptions } from '../lib/fuse-mount.ts';
import { guestTest } from '../lib/guest-test.ts';
import type { TestGuest } from '../lib/guest.ts';
import { openErrno } from '../lib/open-errno.ts';

const { PASSTHROUGH, DIRECT_IO } = OpenFlag;
const BACKING = 'what the backing file has';
const MAPPING = { length: 4096, prot: 'PROT_READ', flags: 'MAP_SHARED' };

/** One file and how its next open is answered. The first open decides what the others may be. */
class Subject implements AsyncDisposable {
  readonly fuse: FuseMount;
  readonly client: Client;
  readonly id: number;

  private constructor(fuse: FuseMount, client: Client, id: number) {
    this.fuse = fuse;
    this.client = client;
    this.id = id;
  }

  static async make(guest: TestGuest, options: FuseOptions = {}): Promise<Subject> {
    guest.needs(guest.expected.idsAreReusable, 'I/O modes of inodes');
    const fuse = await guest.mountFuse({ passthrough: 'off', ...options });
    const client = await guest.client();
    await client.writeFile({ path: fuse.backing('f'), data: 'what the server has' });
    await client.writeFile({ path: fuse.backing('b'), data: BACKING });
    return new Subject(fuse, client, await this.register(fuse));
  }

  static register(fuse: FuseMount): Promise<number> {
    return fuse.server.registerBacking({ path: fuse.backing('b'), flags: 'O_RDWR' });
  }

  async open(openFlags: number, backingId = this.id): Promise<number> {
    await this.fuse.answerOpen('OPEN', { openFlags, backingId }, 1);
    return this.client.open({ path: this.fuse.file('f'), flags: 'O_RDWR' });
  }

  async errno(openFlags: number, backingId = this.id): Promise<string> {
    await this.fuse.answerOpen('OPEN', { openFlags, backingId }, 1);
    return openErrno(this.client, this.fuse.file('f'));
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.client[Symbol.asyncDispose]();
    await this.fuse[Symbol.asyncDispose]();
  }
}

guestTest(
  'beside a passthrough open, a cached or DIRECT_IO open fails with EIO (D2, D5)',
  async (t, guest) => {
    await using subject = await Subject.make(guest);
    const fd = await subject.open(PASSTHROUGH);
    t.is(await subject.errno(0), guest.expected.cachedBesidePassthrough, 'cached');
    t.is(await subject.errno(DIRECT_IO), 'EIO', 'DIRECT_IO');
    t.is(
      text(await subject.client.pread({ fd, count: 100, offset: 0 })),
      BACKING,
      'the open file is unharmed',
    );
    await subject.client.close({ fd });
    t.is(await subject.errno(0), 'ok', 'cached, after the last passthrough close');
    t.is(await subject.errno(DIRECT_IO), 'ok', 'DIRECT_IO, after the last passthrough close');
  },
);

guestTest('beside a passthrough open, the same id is fine, with DIRECT_IO too (D5)', async (t, guest) => {
  await using subject = await Subject.make(guest);
  await subject.open(PASSTHROUGH);
  t.is(await subject.errno(PASSTHROUGH), 'ok');
  t.is(await subject.errno(PASSTHROUGH | DIRECT_IO), 'ok');
});

guestTest(
  'beside a passthrough open, another registration fails with EIO, be it of the same file (D3, D4)',
  async (t, guest) => {
    await using subject = await Subject.make(guest);
    const { fuse, client } = subject;
    const sameFile = await Subject.register(fuse);
    const otherFile = await fuse.server.registerBacking({ path: fuse.backing('f'), flags: 'O_RDWR' });
    const fd = await subject.open(PASSTHROUGH);
    t.is(await subject.errno(PASSTHROUGH, sameFile), 'EIO', 'same file');
    t.is(await subject.errno(PASSTHROUGH, otherFile), 'EIO', 'other file');
    await client.close({ fd });
    t.is(await subject.errno(PASSTHROUGH, otherFile), 'ok', 'after the last close');
  },
);

guestTest(
  'beside a cached open, a passthrough open fails with EIO until it is closed (D1)',
  async (t, guest) => {
    await using subject = await Subject.make(guest);
    const { client } = subject;
    const fd = await subject.open(0);
    t.is(await subject.errno(PASSTHROUGH), 'EIO');
    t.is(text(await client.pread({ fd, count: 100, offset: 0 })), 'what the server has');
    await client.close({ fd });
    t.is(await subject.errno(PASSTHROUGH), 'ok');
  },
);

guestTest('a mapping left from a cached open keeps passthrough out until munmap (D1)', async (t, guest) => {
  await using subject = await Subject.make(guest);
  const { client } = subject;
  const fd = await subject.open(0);
  const map = await client.mmap({ fd, ...MAPPING });
  await client.close({ fd });
  t.is(await subject.errno(PASSTHROUGH), 'EIO', 'while it is mapped');
  await client.munmap({ map });
  t.is(await subject.errno(PASSTHROUGH), 'ok', 'after munmap');
});

guestTest(
  'beside a DIRECT_IO open, passthrough is fine, and the former cannot be mapped then (D6)',
  async (t, guest) => {
    await using subject = await Subject.make(guest);
    const { client } = subject;
    const direct = await subject.open(DIRECT_IO);
    const passthrough = await subject.open(PASSTHROUGH);
    t.is(text(await client.pread({ fd: passthrough, count: 100, offset: 0 })), BACKING);
    t.is(await client.errno.mmap({ fd: direct, ...MAPPING }), 'ENODEV', 'shared');
    t.is(await client.errno.mmap({ fd: direct, ...MAPPING, flags: 'MAP_PRIVATE' }), 'ENODEV', 'private');
  },
);

guestTest(
  'a DIRECT_IO file that was mapped shared keeps passthrough out until it is closed (D7)',
  async (t, guest) => {
    await using subject = await Subject.make(guest, { init: { addFlags: ['DIRECT_IO_ALLOW_MMAP'] } });
    const { client } = subject;
    const fd = await subject.open(DIRECT_IO);
    const map = await client.mmap({ fd, ...MAPPING });
    t.is(await subject.errno(PASSTHROUGH), 'EIO', 'while it is mapped');
    await client.munmap({ map });
    t.is(await subject.errno(PASSTHROUGH), 'EIO', 'after munmap');
    await client.close({ fd });
    t.is(await subject.errno(PASSTHROUGH), 'ok', 'after close');
  },
);

guestTest('pages cached before are not served in passthrough mode (D10)', async (t, guest) => {
  await using subject = await Subject.make(guest);
  const { client, fuse } = subject;
  const cached = await subject.open(OpenFlag.KEEP_CACHE);
  t.is(text(await client.pread({ fd: cached, count: 100, offset: 0 })), 'what the server has');
  await client.close({ fd: cached });
  const after = await fuse.position();
  const fd = await subject.open(PASSTHROUGH);
  t.is(text(await client.pread({ fd, count: 100, offset: 0 })), BACKING);
  t.deepEqual(await fuse.requests({ opcode: ['READ', 'WRITE'], after }), []);
});
