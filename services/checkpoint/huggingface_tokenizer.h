// The tokenizer of a model whose tokens are the bytes of its text, in the format of Hugging Face's tokenizers library:
// a byte-level BPE without a merge. Pure.
#ifndef PENSTOCK_SERVICES_CHECKPOINT_HUGGINGFACE_TOKENIZER_H_
#define PENSTOCK_SERVICES_CHECKPOINT_HUGGINGFACE_TOKENIZER_H_

#include <cstdint>
#include <string>

namespace penstock {

// tokenizer.json: byte b is token b, for those below `vocab_size`.
std::string FormatByteTokenizer(uint32_t vocab_size);
// tokenizer_config.json.
std::string FormatByteTokenizerConfig(uint32_t seq_length);

}  // namespace penstock

#endif  // PENSTOCK_SERVICES_CHECKPOINT_HUGGINGFACE_TOKENIZER_H_
