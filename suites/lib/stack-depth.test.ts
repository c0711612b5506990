import test from 'ava';
import { depthInWords } from './stack-depth.ts';

test('the words name the sum, the verdict and the maximum', (t) => {
  t.is(
    depthInWords('backing file on overlayfs over ecryptfs', 2),
    'backing file on overlayfs over ecryptfs: lower depth 2 + 1 = 3 exceeds the maximum 2',
  );
});

test('as deep as the maximum is within it', (t) => {
  t.is(depthInWords('overlayfs', 1), 'overlayfs: lower depth 1 + 1 = 2 is within the maximum 2');
  t.is(depthInWords('overlayfs', 1, 1), 'overlayfs: lower depth 1 + 1 = 2 exceeds the maximum 1');
});
