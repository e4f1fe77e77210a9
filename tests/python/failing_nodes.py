"""The node cases of ONNX 1.21 that ONNX Runtime 1.31 does not pass on a CPU, asked in Python as little as here."""

REASONS = {
    "ONNX Runtime has no such operator, or not for these types, on a CPU": [
        "test_adagrad", "test_adagrad_multiple", "test_adam", "test_adam_multiple", "test_bernoulli",
        "test_bernoulli_double", "test_bernoulli_double_expanded", "test_bernoulli_expanded",
        "test_bernoulli_seed", "test_bernoulli_seed_expanded", "test_bitcast_bool_to_uint8",
        "test_bitshift_left_uint16", "test_bitshift_right_uint16", "test_image_decoder_decode_bmp_rgb",
        "test_image_decoder_decode_jpeg2k_rgb", "test_image_decoder_decode_jpeg_bgr",
        "test_image_decoder_decode_jpeg_grayscale", "test_image_decoder_decode_jpeg_rgb",
        "test_image_decoder_decode_png_rgb", "test_image_decoder_decode_pnm_rgb",
        "test_image_decoder_decode_tiff_rgb", "test_image_decoder_decode_webp_rgb", "test_max_int16",
        "test_max_uint16", "test_min_int16", "test_min_uint16", "test_momentum", "test_momentum_multiple",
        "test_nesterov_momentum", "test_pow_types_float32_uint32", "test_pow_types_float32_uint64",
        "test_roialign_aligned_false", "test_roialign_aligned_true", "test_roialign_mode_max",
        "test_top_k_uint64",
    ],
    "ONNX Runtime has no batchwise layout of recurrent operators on a CPU": [
        "test_gru_batchwise", "test_lstm_batchwise", "test_simple_rnn_batchwise",
    ],
    "ONNX Runtime's operator does not take these inputs": [
        "test_attention_4d_diff_heads_mask4d_padded_kv", "test_convinteger_with_padding",
    ],
    "ONNX Runtime saturates where the expected values have wrapped around": [
        "test_qlinearmatmul_2D_int8_float16", "test_qlinearmatmul_2D_int8_float32",
        "test_qlinearmatmul_3D_int8_float16", "test_qlinearmatmul_3D_int8_float32",
    ],
    "ONNX Runtime computes other values, some by rounding alone": [
        "test_attention_3d_with_past_and_present_qk_matmul_bias",
        "test_attention_3d_with_past_and_present_qk_matmul_softcap",
        "test_attention_4d_with_past_and_present_qk_matmul_bias",
        "test_attention_4d_with_past_and_present_qk_matmul_bias_3d_mask",
        "test_attention_4d_with_past_and_present_qk_matmul_bias_3d_mask_causal",
        "test_attention_4d_with_past_and_present_qk_matmul_bias_4d_mask",
        "test_attention_4d_with_past_and_present_qk_matmul_bias_4d_mask_causal",
        "test_attention_4d_with_qk_matmul_bias", "test_attention_4d_with_qk_matmul_softcap", "test_dft",
        "test_dft_axis", "test_dft_axis_opset19", "test_dft_inverse", "test_dft_inverse_opset19",
        "test_dft_irfft", "test_dft_irfft_opset19", "test_dft_opset19", "test_dft_rfft",
        "test_dft_rfft_opset19", "test_maxunpool_export_with_output_shape",
        "test_resize_downsample_scales_cubic_align_corners",
        "test_resize_downsample_scales_linear_align_corners", "test_stft", "test_stft_with_window",
        "test_training_dropout", "test_training_dropout_default", "test_training_dropout_default_mask",
        "test_training_dropout_mask",
    ],
}

# These pass on some machines.
MACHINES = {
    "the machine has no locale en_US.UTF-8, which StringNormalizer asks for": [
        "test_strnormalizer_export_monday_casesensintive_lower",
        "test_strnormalizer_export_monday_casesensintive_upper",
        "test_strnormalizer_export_monday_empty_output",
        "test_strnormalizer_export_monday_insensintive_upper_twodim",
    ],
}

FAILING = {case: reason for reason, cases in REASONS.items() for case in cases}
UNCERTAIN = {case: reason for reason, cases in MACHINES.items() for case in cases}
